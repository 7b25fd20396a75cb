"""Endpoints that were lent further than the team whose credentials they use go back to that team."""

from django.db import migrations


def give_back(apps, schema_editor):
    Deployment = apps.get_model("cloud", "Deployment")
    Endpoint = apps.get_model("endpoints", "Endpoint")
    of_teams = Deployment.objects.filter(connection__visibility="team", endpoint__kind="vertex")
    found = of_teams.exclude(connection__team=None).exclude(endpoint__visibility="team")
    for endpoint, team in found.values_list("endpoint", "connection__team").distinct():
        Endpoint.objects.filter(pk=endpoint).update(visibility="team", team=team)


class Migration(migrations.Migration):
    dependencies = [("cloud", "0001_initial"), ("endpoints", "0003_fill_places")]

    operations = [migrations.RunPython(give_back, migrations.RunPython.noop)]
