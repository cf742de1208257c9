"""Projects in the cache: what the hot routes check a key against, and by which limits they admit.

A hot route looks into the cache. What is not there it has loaded here, and keeps. A change deletes it.
"""

import json
import logging
from typing import Any

from django.core.cache import cache
from django.db import DatabaseError, InterfaceError, close_old_connections, transaction
from django.db.models.signals import post_delete, post_save

from django_vcache.exceptions import VcacheError

from .lookups import look_up

logger = logging.getLogger(__name__)

# What the names of keys begin with that the hot routes make. It is below KEY_PREFIX, so `cache.clear()` takes them.
PREFIX = "ingest:tracker:"


def load(project_id: int) -> bytes | None:
    """A project as the hot routes read it: JSON, which is null if there is none or if it takes no events. None if the
    database cannot be asked: clients are told to come again."""
    from .models import Project

    if project_id >= 2**63:
        return b"null"  # no database has such a number
    try:
        # A hot route skips the signals of a request, which would close a connection that has become too old.
        close_old_connections()
        project = Project.objects.filter(pk=project_id, is_active=True).first()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Project %d cannot be loaded: %s", project_id, error)
        return None
    return b"null" if project is None else record(project)


async def aload(project_id: int) -> bytes | None:
    """As :func:`load`, to be awaited; also None if the database has not answered in time."""
    return await look_up(project_id, load)


def record(project: Any) -> bytes:
    """What `ingest_hot/src/project.rs` reads."""
    return json.dumps({"key": project.public_key, "rate": project.per_minute, **project.quotas}).encode()


def forget(sender: Any, instance: Any, **_: Any) -> None:
    """A project has changed: it is looked up again, once the change is to be seen."""
    project_id = instance.pk

    def delete() -> None:
        try:
            cache.execute("DEL", f"{PREFIX}project:{project_id}")
        except VcacheError as error:
            # It is kept for a minute, and then looked up all the same.
            logger.warning("Project %d stays in the cache for up to a minute: %s", project_id, error)

    transaction.on_commit(delete)


def connect() -> None:
    """Has changes of projects known."""
    from .models import Project

    post_save.connect(forget, Project, dispatch_uid="tracker.projects")
    post_delete.connect(forget, Project, dispatch_uid="tracker.projects")
