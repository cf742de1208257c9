"""Projects, issues and events."""

from uuid import uuid4

from django.db import models


def new_key() -> str:
    """A key that no other project has."""
    return uuid4().hex


class Project(models.Model):
    """A program whose events are taken, and how many of them. A limit of -1 means unlimited."""

    name = models.CharField(max_length=100)
    public_key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    is_active = models.BooleanField(default=True)
    rate = models.IntegerField("events a minute", default=600)
    events_quota = models.BigIntegerField("events a month", default=1_000_000)
    bytes_quota = models.BigIntegerField("bytes a month", default=10**10)

    class Meta:
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name

    def dsn(self, address: str) -> str:
        """What its clients are configured with, for a site at an address such as ``http://127.0.0.1:8000``."""
        scheme, _, place = address.partition("://")
        return f"{scheme}://{self.public_key}@{place}/{self.pk}"


class Issue(models.Model):
    """Events that are the same fault."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="issues")
    fingerprint = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    culprit = models.CharField(max_length=200, blank=True)
    level = models.CharField(max_length=16)
    count = models.PositiveBigIntegerField(default=0)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project", "fingerprint"), name="one_issue_per_fingerprint"),)
        indexes = (models.Index(fields=("project", "-last_seen"), name="issue_by_last_seen"),)

    def __str__(self) -> str:
        return self.title


class Event(models.Model):
    """One occurrence, as its client has sent it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="events")
    issue = models.ForeignKey(Issue, models.CASCADE, related_name="events")
    # Clients choose it, so it is unlike the others of its project only.
    event_id = models.UUIDField()
    received = models.DateTimeField()
    level = models.CharField(max_length=16)
    title = models.CharField(max_length=200)
    culprit = models.CharField(max_length=200, blank=True)
    data = models.JSONField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project", "event_id"), name="one_event_per_id"),)
        indexes = (models.Index(fields=("issue", "-received"), name="event_by_received"),)

    def __str__(self) -> str:
        return f"{self.event_id}: {self.title}"
