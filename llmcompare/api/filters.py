import django_filters

from llmcompare.runs.models import Run


class RunFilter(django_filters.FilterSet):
    class Meta:
        model = Run
        fields = ["kind", "state"]
