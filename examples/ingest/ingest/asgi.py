"""The ASGI application: `uvicorn --http django_vcache.uvicorn:HotProtocol ingest.asgi:application`.

Without the option, and under other servers, hot routes are answered in ASGI.
"""

import os

from django_vcache.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ingest.settings")
application = get_asgi_application()
