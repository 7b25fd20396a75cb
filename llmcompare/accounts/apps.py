from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "llmcompare.accounts"
    label = "accounts"
