"""The application ``django_vcache``. INSTALLED_APPS needs it for the commands and the system checks, to have an
embedded server outlive the reload of ``runserver``, and to connect when a server starts."""

import sys

from django.apps import AppConfig

__all__ = ["VcacheConfig"]


class VcacheConfig(AppConfig):
    name = "django_vcache"
    verbose_name = "vcache"

    def ready(self) -> None:
        from django_vcache._warming import warm_up_at_start
        from django_vcache.admission import checks  # noqa: F401

        if sys.argv[1:2] and sys.argv[1].startswith("runserver"):
            from django_vcache.options import hold_embedded

            hold_embedded()
        warm_up_at_start()
