"""The app."""

from django.apps import AppConfig


class TrackerConfig(AppConfig):
    """An error tracker for Sentry's clients."""

    name = "tracker"

    def ready(self) -> None:
        from . import projects

        projects.connect()
