"""What a setting of a cache names by a dotted path, or is itself."""

from collections.abc import Callable

from django.utils.module_loading import import_string

from .exceptions import ConfigurationError

__all__ = ["imported"]


def imported(given: object, setting: str, wrong: Callable[[str], ConfigurationError]) -> object:
    """The object that a setting means. A path is imported, and of a class an object is made.

    Args:
        given: a dotted path, a class, or the object.
        setting: how errors call the setting.
        wrong: makes the error.

    Raises:
        ConfigurationError: the path cannot be imported, or the class needs arguments.
    """
    found = given
    if isinstance(given, str):
        try:
            found = import_string(given)
        except ImportError as error:
            raise wrong(f"{setting}: {error}") from error
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise wrong(f"{setting} {given!r} cannot be made without arguments: {error}") from error
    return found
