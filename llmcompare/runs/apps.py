from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "llmcompare.runs"
    label = "runs"
