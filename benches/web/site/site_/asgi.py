"""The application, on Django's handler or on ours."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")

if os.environ.get("BENCH_HANDLER") == "ours":
    from django_vcache.asgi import get_asgi_application
else:
    from django.core.asgi import get_asgi_application

application = get_asgi_application()
