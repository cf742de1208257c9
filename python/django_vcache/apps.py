"""The application ``django_vcache``. INSTALLED_APPS needs it for the commands and the system checks, and for nothing
else."""

from django.apps import AppConfig

__all__ = ["VcacheConfig"]


class VcacheConfig(AppConfig):
    name = "django_vcache"
    verbose_name = "vcache"

    def ready(self) -> None:
        from django_vcache.admission import checks  # noqa: F401
