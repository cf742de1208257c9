"""The ASGI application: `granian --interface asgi ingest.asgi:application`."""

import os

from django_vcache.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ingest.settings")
application = get_asgi_application()
