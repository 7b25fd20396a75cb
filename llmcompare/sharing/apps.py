from django.apps import AppConfig


class SharingConfig(AppConfig):
    name = "llmcompare.sharing"
    label = "sharing"
