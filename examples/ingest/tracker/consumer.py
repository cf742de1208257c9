"""Stores events: what `manage.py vcache_consume tracker.consumer.store --group store` calls with each batch.

A batch is one transaction. It is acknowledged when `store` has returned, so what is acknowledged is stored. If the
database is away, `store` raises, and the whole batch is delivered again. So a batch may come twice, also to two
processes at once: what is in the database already changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from django_vcache.admission.consumer import Batch, Entry

from . import reading
from .models import Event, Issue, Project

AT_ONCE = 500  # rows of a statement: SQLite has a limit


@dataclass(frozen=True)
class Incoming:
    """An event that is to be stored."""

    project_id: int
    event_id: UUID
    received: datetime
    data: dict[str, Any]
    fingerprint: str
    title: str
    culprit: str
    level: str

    @property
    def issue(self) -> tuple[int, str]:
        """What its issue is found by."""
        return self.project_id, self.fingerprint


def store(batch: Batch) -> None:
    """Store a batch of events."""
    events, unreadable = {}, []
    for entry in batch:
        try:
            event = read(entry)
        except ValueError:
            unreadable.append(entry)
        else:
            events.setdefault((event.project_id, event.event_id), event)
    if unreadable:
        batch.reject(unreadable, reason="no event")
    with transaction.atomic():
        save(events.values())


def read(entry: Entry) -> Incoming:
    """An entry of the stream.

    Raises:
        ValueError: the hot routes did not write it.
    """
    try:
        project_id, event_id = int(entry.fields["project"]), UUID(entry.fields["event"].decode())
        received = datetime.fromtimestamp(int(entry.fields["received"]) / 1000, UTC)
    except (KeyError, OverflowError, OSError) as error:
        raise ValueError("the entry lacks a field") from error
    data = reading.parse(entry.payload)
    return Incoming(
        project_id=project_id,
        event_id=event_id,
        received=received,
        data=data,
        fingerprint=reading.fingerprint(data),
        title=reading.title(data),
        culprit=reading.culprit(data),
        level=reading.level(data),
    )


def save(events: Iterable[Incoming]) -> None:
    """Insert what is new, and count it. In a transaction."""
    projects = set(Project.objects.filter(pk__in={event.project_id for event in events}).values_list("pk", flat=True))
    # A project may have been deleted while its events waited.
    events = [event for event in events if event.project_id in projects]
    if not events:
        return
    issues = lock_issues(events)
    known = known_ids(events)
    new = [event for event in events if (event.project_id, event.event_id) not in known]
    Event.objects.bulk_create(
        [
            Event(
                project_id=event.project_id,
                issue=issues[event.issue],
                event_id=event.event_id,
                received=event.received,
                level=event.level,
                title=event.title,
                culprit=event.culprit,
                data=event.data,
            )
            for event in new
        ],
        batch_size=AT_ONCE,
        ignore_conflicts=True,
    )
    count(new, issues)


def lock_issues(events: list[Incoming]) -> dict[tuple[int, str], Issue]:
    """The issues of the events. Those that are new are made, and all are locked: two processes that were given the same
    events would count them twice."""
    first = {}
    for event in events:
        first.setdefault(event.issue, event)
    # In one order everywhere: two processes that lock the same rows wait for each other, and not both.
    Issue.objects.bulk_create(
        [
            Issue(
                project_id=event.project_id,
                fingerprint=event.fingerprint,
                title=event.title,
                culprit=event.culprit,
                level=event.level,
                first_seen=event.received,
                last_seen=event.received,
            )
            for _, event in sorted(first.items())
        ],
        batch_size=AT_ONCE,
        ignore_conflicts=True,
    )
    found = Issue.objects.select_for_update().filter(
        project__in={project for project, _ in first}, fingerprint__in={fingerprint for _, fingerprint in first}
    )
    return {(issue.project_id, issue.fingerprint): issue for issue in found.order_by("pk")}


def known_ids(events: list[Incoming]) -> set[tuple[int, UUID]]:
    """The ids that are stored already."""
    found = Event.objects.filter(
        project__in={event.project_id for event in events}, event_id__in={event.event_id for event in events}
    )
    return set(found.values_list("project_id", "event_id"))


def count(new: list[Incoming], issues: dict[tuple[int, str], Issue]) -> None:
    """Count new events to their issues, which then say what the latest one says."""
    changed = set()
    for event in new:
        issue = issues[event.issue]
        issue.count += 1
        issue.first_seen = min(issue.first_seen, event.received)
        if event.received >= issue.last_seen:
            issue.last_seen, issue.title = event.received, event.title
            issue.culprit, issue.level = event.culprit, event.level
        changed.add(event.issue)
    Issue.objects.bulk_update(
        [issues[place] for place in sorted(changed)],
        ["count", "first_seen", "last_seen", "title", "culprit", "level"],
        batch_size=100,
    )
