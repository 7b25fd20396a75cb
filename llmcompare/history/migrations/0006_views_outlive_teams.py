"""A view stays its owner's when the team that saw it is deleted."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_user_language"),
        ("history", "0005_fill_series"),
    ]

    operations = [
        migrations.AlterField(
            model_name="savedview",
            name="team",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="saved_views",
                to="accounts.team",
            ),
        ),
    ]
