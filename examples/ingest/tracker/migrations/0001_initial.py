"""The first tables."""

import django.db.models.deletion
from django.db import migrations, models

import tracker.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Project",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                (
                    "public_key",
                    models.CharField(default=tracker.models.new_key, editable=False, max_length=32, unique=True),
                ),
                ("is_active", models.BooleanField(default=True)),
                ("rate", models.IntegerField(default=600, verbose_name="events a minute")),
                ("events_quota", models.BigIntegerField(default=1000000, verbose_name="events a month")),
                ("bytes_quota", models.BigIntegerField(default=10000000000, verbose_name="bytes a month")),
            ],
            options={
                "ordering": ("name", "pk"),
            },
        ),
        migrations.CreateModel(
            name="Issue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("fingerprint", models.CharField(max_length=64)),
                ("title", models.CharField(max_length=200)),
                ("culprit", models.CharField(blank=True, max_length=200)),
                ("level", models.CharField(max_length=16)),
                ("count", models.PositiveBigIntegerField(default=0)),
                ("first_seen", models.DateTimeField()),
                ("last_seen", models.DateTimeField()),
                (
                    "project",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="issues", to="tracker.project"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("event_id", models.UUIDField()),
                ("received", models.DateTimeField()),
                ("level", models.CharField(max_length=16)),
                ("title", models.CharField(max_length=200)),
                ("culprit", models.CharField(blank=True, max_length=200)),
                ("data", models.JSONField()),
                (
                    "issue",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="events", to="tracker.issue"
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="events", to="tracker.project"
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="issue",
            index=models.Index(fields=["project", "-last_seen"], name="issue_by_last_seen"),
        ),
        migrations.AddConstraint(
            model_name="issue",
            constraint=models.UniqueConstraint(fields=("project", "fingerprint"), name="one_issue_per_fingerprint"),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["issue", "-received"], name="event_by_received"),
        ),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.UniqueConstraint(fields=("project", "event_id"), name="one_event_per_id"),
        ),
    ]
