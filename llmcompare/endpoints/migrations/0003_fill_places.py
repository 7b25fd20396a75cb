"""Apart from the migration that adds the column, as that of the series of runs."""

import hashlib

from django.db import migrations


def fill(apps, schema_editor):
    """The address of now is the first: runs from before belong to it, as far as anybody knows."""
    Endpoint = apps.get_model("endpoints", "Endpoint")
    for endpoint in Endpoint.objects.only("pk", "url").iterator():
        mark = hashlib.sha256(endpoint.url.encode()).hexdigest()
        Endpoint.objects.filter(pk=endpoint.pk).update(places=[mark])


class Migration(migrations.Migration):
    dependencies = [("endpoints", "0002_places")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
