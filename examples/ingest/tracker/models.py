"""Projects, issues and events."""

from typing import Any
from uuid import uuid4

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

UNLIMITED = -1
# The gate counts exactly up to here, and every database has room for such a rate.
LARGEST_RATE = 2**31 - 1
LARGEST_QUOTA = 2**53
# No database has a larger primary key.
LARGEST_ID = 2**63 - 1


def at_least_and_most(most: int) -> list[Any]:
    """The validators of a limit."""
    return [MinValueValidator(UNLIMITED), MaxValueValidator(most)]


def within(field: str, most: int) -> models.CheckConstraint:
    """The same for what is saved without validation."""
    bounds = models.Q((f"{field}__gte", UNLIMITED), (f"{field}__lte", most))
    return models.CheckConstraint(condition=bounds, name=f"{field}_is_a_limit")


def held(limit: int, most: int) -> int:
    """The nearest limit that the gate takes."""
    return max(UNLIMITED, min(limit, most))


def new_key() -> str:
    """A key that no other project has."""
    return uuid4().hex


class Project(models.Model):
    """A program whose events are taken, and how many of them. A limit of -1 means unlimited."""

    name = models.CharField(max_length=100)
    public_key = models.CharField(max_length=32, unique=True, default=new_key, editable=False)
    is_active = models.BooleanField(default=True)
    rate = models.IntegerField("events a minute", default=600, validators=at_least_and_most(LARGEST_RATE))
    events_quota = models.BigIntegerField(
        "events a month", default=1_000_000, validators=at_least_and_most(LARGEST_QUOTA)
    )
    bytes_quota = models.BigIntegerField("bytes a month", default=10**10, validators=at_least_and_most(LARGEST_QUOTA))

    class Meta:
        ordering = ("name", "pk")
        constraints = (
            within("rate", LARGEST_RATE),
            within("events_quota", LARGEST_QUOTA),
            within("bytes_quota", LARGEST_QUOTA),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def quotas(self) -> dict[str, int]:
        """The limits of a month, by the names of the gate's quotas. It takes them, whatever the row says: a database
        whose migrations have not run yet may hold others."""
        return {"events": held(self.events_quota, LARGEST_QUOTA), "bytes": held(self.bytes_quota, LARGEST_QUOTA)}

    @property
    def per_minute(self) -> int:
        """The rate, in the same way."""
        return held(self.rate, LARGEST_RATE)

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
