"""What the times of estimates stand on, for lists; that of earlier ones is in their documents."""

from django.db import migrations, models


def fill(apps, schema_editor):
    RunDocument = apps.get_model("runs", "RunDocument")
    Run = apps.get_model("runs", "Run")
    notes = RunDocument.objects.filter(run__kind="estimate").values_list("run_id", "data__conventions__ceilings")
    for run_id, note in notes.iterator(chunk_size=500):
        level = next((word for word in ("datasheet", "measured") if str(note or "").lower().startswith(word)), "")
        if level:
            Run.objects.filter(pk=run_id).update(ceilings=level)


class Migration(migrations.Migration):
    dependencies = [("runs", "0006_endpoint")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="ceilings",
            field=models.CharField(
                blank=True,
                help_text='what the times of an estimate stand on: "datasheet" or "measured"',
                max_length=10,
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
