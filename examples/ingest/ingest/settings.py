"""Django settings: a cache, no database. Environment variables set what differs in production."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for-development-only")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

ROOT_URLCONF = "ingest.urls"
ASGI_APPLICATION = "ingest.asgi.application"
USE_TZ = True

INSTALLED_APPS = ["django_vcache"]

# The cache and the limits share this connection: one for the process.
CACHES = {
    "default": {
        "BACKEND": "django_vcache.ValkeyCache",
        "LOCATION": os.environ.get("VCACHE_URL", "redis://localhost:6379/1"),
        # The stream is in the same database, so `cache.clear()` must not empty it.
        "KEY_PREFIX": "ingest",
        "OPTIONS": {"CLEAR": "prefix"},
    }
}

# A larger request body is answered with 413.
DATA_UPLOAD_MAX_MEMORY_SIZE = 200 * 1024  # bytes

# What a project may send if no limit is set for it: this many events in this many seconds.
INGEST_LIMIT = int(os.environ.get("INGEST_LIMIT", "600"))
INGEST_PERIOD = 60

VCACHE = {"STREAMS": ["ingest.limits.gate"]}

# So many accepted events may wait for a worker.
INGEST_STREAM_MAXLEN = int(os.environ.get("INGEST_STREAM_MAXLEN", "1000000"))
