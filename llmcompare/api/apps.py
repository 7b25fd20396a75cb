from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "llmcompare.api"
    label = "api"
