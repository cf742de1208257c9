"""The application ``django_vcache``. INSTALLED_APPS needs it for the commands and the system checks, to have an
embedded server outlive the reload of ``runserver``, to connect when a server starts, and to have a development server
follow the project's Rust source."""

import multiprocessing
import os
import sys
from typing import Any

from django.apps import AppConfig
from django.conf import settings

__all__ = ["VcacheConfig"]


class VcacheConfig(AppConfig):
    name = "django_vcache"
    verbose_name = "vcache"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # Now, and not in `ready`: by then the models of the project may have imported the module that is out of date.
        if settings.DEBUG and (_is_child_of_runserver() or _is_child_of_uvicorn()):
            from django_vcache.crates.reloading import follow

            follow(is_runserver=_is_child_of_runserver())

    def ready(self) -> None:
        import django_vcache.checks  # noqa: F401
        from django_vcache._warming import warm_up_at_start
        from django_vcache.admission import checks  # noqa: F401
        from django_vcache.routing import _checks  # noqa: F401

        if sys.argv[1:2] and sys.argv[1].startswith("runserver"):
            from django_vcache.options import hold_embedded

            hold_embedded()
        warm_up_at_start()


def _is_child_of_runserver() -> bool:
    """Whether Django's reloader started this process, and starts it anew when it ends with a reload."""
    from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

    return os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"


def _is_child_of_uvicorn() -> bool:
    """Whether uvicorn started this process, which it does for ``--reload`` and for several workers."""
    return "uvicorn" in sys.modules and multiprocessing.parent_process() is not None
