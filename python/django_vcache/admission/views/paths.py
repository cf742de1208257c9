"""What a view is and where it is imported from, inside of what decorates it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["class_of", "inside", "instance_of", "path_of", "path_of_class"]


def inside(view: Callable[..., Any]) -> Callable[..., Any]:
    """What other decorators, and ours, stand around: the first thing inside that tells its class, or else the last."""
    found: Callable[..., Any] = inspect.unwrap(view, stop=_tells_its_class)
    return found


def _tells_its_class(view: Callable[..., Any]) -> bool:
    return class_of(view) is not None or instance_of(view) is not None


def instance_of(view: Callable[..., Any]) -> Any:
    """The object whose method a view is. What ``method_decorator`` decorates is a ``partial`` of one."""
    return getattr(getattr(view, "func", view), "__self__", None)


def class_of(view: Any) -> type | None:
    """The class whose ``as_view()`` returned a view, Django's or REST framework's."""
    found = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return found if isinstance(found, type) else None


def path_of(view: Callable[..., Any]) -> str:
    """The import path of a view, as budgets are named by it."""
    view = inside(view)
    # What `as_view()` returns has the same name for every class.
    if view_class := class_of(view):
        return path_of_class(view_class)
    name = getattr(view, "__name__", "")
    if not name and isinstance(view, functools.partial):
        return path_of(view.func)
    instance = instance_of(view)
    if instance is not None:
        # Not the class that defines the method, which is Django's as often as not.
        path = path_of_class(instance if isinstance(instance, type) else type(instance))
        return path if name in ("", "dispatch") else f"{path}.{name}"
    named = view if name else type(view)
    return f"{named.__module__}.{named.__qualname__}"


def path_of_class(view_class: type) -> str:
    # The classes that REST framework makes of functions are all of one qualified name.
    qualified = view_class.__qualname__.endswith(view_class.__name__)
    return f"{view_class.__module__}.{view_class.__qualname__ if qualified else view_class.__name__}"
