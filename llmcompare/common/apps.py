from django.apps import AppConfig, apps


class CommonConfig(AppConfig):
    name = "llmcompare.common"
    label = "common"

    def ready(self) -> None:
        from llmcompare.common.adminnames import name_all
        from llmcompare.common.saying import said
        from profiling import quantities

        quantities.translate = said
        name_all(apps.get_app_configs())
