from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("endpoints", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="places",
            field=models.JSONField(
                default=list, editable=False, help_text="marks of the addresses that runs were asked of, in order"
            ),
        ),
    ]
