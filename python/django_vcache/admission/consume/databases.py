"""Django's database connections between batches. A request closes at its ends the connections that are broken or too
old; a consumer has no requests, so it does the same around each batch.
"""

import asyncio
import logging

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections

logger = logging.getLogger("django_vcache")

_NONE = frozenset({"", "django.db.backends.dummy"})


def refresh() -> None:
    """Closes this thread's connections that are unusable, or older than ``CONN_MAX_AGE``."""
    if _in_a_loop():
        # Django has no connections there.
        return
    for connection in connections.all(initialized_only=True):
        # NOTE: Django's `close_old_connections` would close it: it is for requests, which have no transaction around
        # them. The loop may have one, such as that of a test case.
        if connection.in_atomic_block:
            continue
        try:
            connection.close_if_unusable_or_obsolete()
        except Exception:
            # What works on the batch says what is wrong with its database.
            logger.warning("the database connection %r could not be closed", connection.alias, exc_info=True)


async def arefresh() -> None:
    """The same on the thread where Django's own awaited queries run, and ``sync_to_async`` by default."""
    if any(database.get("ENGINE", "") not in _NONE for database in settings.DATABASES.values()):
        await sync_to_async(refresh, thread_sensitive=True)()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
