"""Settings of a row: its cache backend and middleware come from the environment."""

import json
import os

SECRET_KEY = "bench"
ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = False
ROOT_URLCONF = "site_.urls"
USE_TZ = True
LOGGING_CONFIG = None

_OPTIONS = json.loads(os.environ["BENCH"])

CACHES = {"default": _OPTIONS["cache"]}

MIDDLEWARE = _OPTIONS["middleware"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    *_OPTIONS["apps"],
]
BOLT_API = ["site_.bolt:api"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
