"""Limits that the gate takes. Rows with others get the nearest one."""

from typing import Any

import django.core.validators
from django.db import migrations, models

MOST = {"rate": 2147483647, "events_quota": 9007199254740992, "bytes_quota": 9007199254740992}


def hold(apps: Any, schema_editor: Any) -> None:
    """A constraint cannot be added while a row breaks it."""
    projects = apps.get_model("tracker", "Project").objects.using(schema_editor.connection.alias)
    for field, most in MOST.items():
        projects.filter(**{f"{field}__lt": -1}).update(**{field: -1})
        projects.filter(**{f"{field}__gt": most}).update(**{field: most})


class Migration(migrations.Migration):
    dependencies = [("tracker", "0001_initial")]

    operations = [
        migrations.RunPython(hold, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="project",
            name="rate",
            field=models.IntegerField(
                default=600,
                validators=[
                    django.core.validators.MinValueValidator(-1),
                    django.core.validators.MaxValueValidator(2147483647),
                ],
                verbose_name="events a minute",
            ),
        ),
        migrations.AlterField(
            model_name="project",
            name="events_quota",
            field=models.BigIntegerField(
                default=1000000,
                validators=[
                    django.core.validators.MinValueValidator(-1),
                    django.core.validators.MaxValueValidator(9007199254740992),
                ],
                verbose_name="events a month",
            ),
        ),
        migrations.AlterField(
            model_name="project",
            name="bytes_quota",
            field=models.BigIntegerField(
                default=10000000000,
                validators=[
                    django.core.validators.MinValueValidator(-1),
                    django.core.validators.MaxValueValidator(9007199254740992),
                ],
                verbose_name="bytes a month",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("rate__gte", -1), ("rate__lte", 2147483647)), name="rate_is_a_limit"
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("events_quota__gte", -1), ("events_quota__lte", 9007199254740992)),
                name="events_quota_is_a_limit",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("bytes_quota__gte", -1), ("bytes_quota__lte", 9007199254740992)),
                name="bytes_quota_is_a_limit",
            ),
        ),
    ]
