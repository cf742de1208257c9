"""The WSGI application. The hot routes work under it too, as ordinary views."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ingest.settings")
application = get_wsgi_application()
