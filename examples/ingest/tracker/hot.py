"""The hot routes, told what the settings say."""

import atexit
import contextlib

import ingest_hot
from django.conf import settings
from ingest_hot import aenvelope, astore

from django_vcache.exceptions import VcacheError

from .projects import PREFIX

__all__ = ["aenvelope", "astore"]

ingest_hot.configure(PREFIX, settings.INGEST_STREAM_MAXLEN)


@atexit.register
def write_counts() -> None:
    """Write what this process has counted in its last second."""
    with contextlib.suppress(VcacheError):
        ingest_hot.write_counts()
