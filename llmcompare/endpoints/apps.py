from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EndpointsConfig(AppConfig):
    name = "llmcompare.endpoints"
    label = "endpoints"
    verbose_name = _("Endpoints")

    def ready(self) -> None:
        from llmcompare.endpoints import targets

        targets.register("openai", targets.openai)
