"""The ASGI application: `granian --interface asginl ingest.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ingest.settings")
application = get_asgi_application()
