"""Django settings. Environment variables set what differs in production."""

import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "for-development-only")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

ROOT_URLCONF = "ingest.urls"
ASGI_APPLICATION = "ingest.asgi.application"
WSGI_APPLICATION = "ingest.wsgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.humanize", "django.contrib.staticfiles", "django_vcache", "tracker"]
# They are for the pages. The hot routes are answered before.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"

# DATABASE_URL=postgres://user:password@host/name, or a file beside manage.py.
DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{BASE_DIR / 'tracker.sqlite3'}", conn_max_age=60, conn_health_checks=True
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # One process writes while others read, and two that want to write wait for each other.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
elif DATABASES["default"]["ENGINE"].endswith("postgresql"):
    # A server, or a network, that says nothing is given up; what DATABASE_URL says counts before.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 3,  # seconds
        "tcp_user_timeout": 10_000,  # milliseconds in which nothing that was sent is confirmed
        **DATABASES["default"].get("OPTIONS", {}),
    }

# The cache, the limits and the stream share this connection: one for the process.
CACHES = {
    "default": {
        "BACKEND": "django_vcache.ValkeyCache",
        "LOCATION": os.environ.get("VCACHE_URL", "redis://localhost:6379/1"),
        # The stream is in the same database, so `cache.clear()` must not empty it.
        "KEY_PREFIX": "ingest",
        "OPTIONS": {"CLEAR": "prefix"},
    }
}

VCACHE = {"GATES": ["ingest.limits.gate"]}

# A larger request is answered with 413. An event has up to a megabyte of JSON, and clients compress what they send.
INGEST_LARGEST_BODY = (2 << 20, 8 << 20)  # bytes as they are sent, and decoded
# So many accepted events may wait for the consumer.
INGEST_STREAM_MAXLEN = int(os.environ.get("INGEST_STREAM_MAXLEN", "1000000"))
# Seconds for which a client waits until the database has said what its project is. After that it has to come again.
INGEST_LOOKUP_TIMEOUT = float(os.environ.get("INGEST_LOOKUP_TIMEOUT", "3"))

# Django alone would only mail errors. Here they are in the output of the process.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING"},
        # A warning of these is an answer from 400 to 499. A client that is over a limit must not fill the output.
        "django.request": {"level": "ERROR"},
    },
}
