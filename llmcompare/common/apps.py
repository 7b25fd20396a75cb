from django.apps import AppConfig


class CommonConfig(AppConfig):
    name = "llmcompare.common"
    label = "common"
