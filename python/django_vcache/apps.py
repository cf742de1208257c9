"""The application ``django_vcache``. INSTALLED_APPS needs it for the commands and the system checks, and to have an
embedded server outlive the reload of ``runserver``."""

import sys

from django.apps import AppConfig

__all__ = ["VcacheConfig"]


class VcacheConfig(AppConfig):
    name = "django_vcache"
    verbose_name = "vcache"

    def ready(self) -> None:
        from django_vcache.admission import checks  # noqa: F401

        if sys.argv[1:2] and sys.argv[1].startswith("runserver"):
            from django_vcache.options import hold_embedded

            hold_embedded()
