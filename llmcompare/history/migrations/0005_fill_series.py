"""Apart from the migration that adds the columns: PostgreSQL makes no index on a table with changes that are not committed yet."""

from django.db import migrations

from llmcompare.runs.series import contended_of, series_key, versions_of


def fill(apps, schema_editor):
    """What new runs get when they are launched and when they end, for those that are there already."""
    Run, RunDocument = (apps.get_model("runs", name) for name in ("Run", "RunDocument"))
    for run in Run.objects.select_related("host").only("pk", "spec", "host__slug").iterator(chunk_size=100):
        Run.objects.filter(pk=run.pk).update(series=series_key(run.spec, run.host.slug if run.host else ""))
    parts = ("data__producer", "data__environment", "data__conditions")
    for pk, producer, environment, conditions in RunDocument.objects.values_list("run", *parts).iterator(
        chunk_size=100
    ):
        document = {"producer": producer, "environment": environment, "conditions": conditions}
        Run.objects.filter(pk=pk).update(contended=contended_of(document), versions=versions_of(document))


class Migration(migrations.Migration):
    dependencies = [("history", "0004_notices"), ("runs", "0003_series_and_tags")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
