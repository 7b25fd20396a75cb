from django.apps import AppConfig


class CloudConfig(AppConfig):
    name = "llmcompare.cloud"
    label = "cloud"

    def ready(self) -> None:
        from llmcompare.cloud import portal_endpoints
        from llmcompare.endpoints import targets

        targets.register(portal_endpoints.KIND, portal_endpoints.resolve)
