from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "llmcompare.catalog"
    label = "catalog"
    verbose_name = "Models"
