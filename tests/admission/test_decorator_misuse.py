"""Ways of writing `@throttle` that would limit nothing, or give every request a fresh budget, are refused in words, as
far as it can be seen when the module is imported."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from support.views import get

pytestmark = pytest.mark.usefixtures("default_alias", "patient")

BARE = r'^views_of_a_test\.py:\d+: @throttle stands without parentheses: write @throttle\("100/m"\)$'

HEAD = """
import functools
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django_vcache.admission import throttle
"""


def imported(source: str) -> types.ModuleType:
    """A module with this source."""
    module = types.ModuleType("views_of_a_test")
    exec(compile(HEAD + source, "views_of_a_test.py", "exec"), module.__dict__)
    return module


def misuse() -> type[Exception]:
    from django_vcache.exceptions import ConfigurationError

    return ConfigurationError


BODY = "    return HttpResponse()\n"
VIEW = f"def view(request):\n{BODY}"
WITHOUT = {
    "function": f"@throttle\n{VIEW}",
    "one line": "@throttle\ndef view(request): return HttpResponse()\n",
    "async function": f"@throttle\nasync {VIEW}",
    "with an argument": f"@throttle\ndef view(request, pk):\n{BODY}",
    "above another decorator": f"@throttle\n@csrf_exempt\n{VIEW}",
    "between decorators": f"@csrf_exempt\n@throttle\n@csrf_exempt\n{VIEW}",
    "a name for the second time": f"{VIEW}\n@throttle\n{VIEW}",
    "method": f"class Page(View):\n    @throttle\n    def get(self, request):\n    {BODY}",
    "class": f"@throttle\nclass Page(View):\n    def get(self, request):\n    {BODY}",
    "as_view": "class Page(View):\n    pass\n\nview = throttle(Page.as_view())\n",
    "in a function": f"def make():\n    @throttle\n    def view(request):\n    {BODY}\nmake()\n",
    "above one with them": f"@throttle\n@throttle('5/m')\n{VIEW}",
    "around one with them": "view = throttle(throttle('5/m'))\n",
}
RATE = "def by_plan(request):\n    return '5/m'\n"
WITH = {
    "function": f"{RATE}\n@throttle(by_plan)\n{VIEW}",
    "lambda": f"@throttle(lambda request: '5/m')\n{VIEW}",
    "decorated function": f"@functools.cache\n{RATE}\nlimit = throttle(by_plan)\n",
    "function that another name has": f"{RATE}\nplans = [by_plan]\ndel by_plan\nlimit = throttle(plans[0])\n",
    "closure": f"def rate():\n    {RATE.replace('    ', '        ')}    return by_plan\n\nlimit = throttle(rate())\n",
    "object": "class ByPlan:\n    def __call__(self, request):\n        return '5/m'\n\nlimit = throttle(ByPlan())\n",
    "factory of limits": f"def limited(rate):\n    return throttle(rate, key='ip')\n\n@limited('5/m')\n{VIEW}",
}


@pytest.mark.parametrize("how", WITHOUT)
def test_without_parentheses_the_import_says_so(how: str) -> None:
    with pytest.raises(misuse(), match=BARE):
        imported(WITHOUT[how])


@pytest.mark.parametrize("how", WITH)
def test_a_callable_rate_is_no_view(how: str) -> None:
    assert imported(WITH[how])


def test_where_it_cannot_be_seen_at_import_the_request_says_it() -> None:
    def opaque(view: Any) -> Any:
        def wrapper(request: Any) -> Any:
            return view(request)

        return wrapper

    from django_vcache.admission import throttle

    view = throttle(opaque(lambda request: HttpResponse()))
    with pytest.raises(misuse(), match=r"a URL leads to throttle\(...\) itself and not to a view.*without parentheses"):
        view(get())


class Page(View):
    def get(self, request: Any) -> HttpResponse:
        from django_vcache.admission import throttle

        return throttle("5/m")(inner)(request)  # type: ignore[return-value]


def inner(request: Any) -> HttpResponse:
    return HttpResponse("seen")


def function(request: Any) -> HttpResponse:
    from django_vcache.admission import throttle

    @throttle("5/m", name="named")
    def limited(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    return limited(request)


async def afunction(request: Any) -> HttpResponse:
    from django_vcache.admission import throttle

    await asyncio.sleep(0)
    return throttle("5/m")(inner)(request)


def generator(request: Any) -> Iterator[str]:
    yield "seen"


async def async_generator(request: Any) -> AsyncIterator[str]:
    yield "seen"


def by_arguments(*args: Any) -> HttpResponse:
    from django_vcache.admission import throttle

    return throttle("5/m")(inner)(*args)


def by_a_helper(request: Any) -> HttpResponse:
    def helper() -> Any:
        from django_vcache.admission import throttle

        return throttle("5/m")

    return helper()(inner)(request)  # type: ignore[no-any-return]


def of_rest_framework(request: Any) -> HttpResponse:
    rest_framework = pytest.importorskip("rest_framework.request")
    return function(rest_framework.Request(request))


def answer(view: Any) -> None:
    answer = view(get())
    if asyncio.iscoroutine(answer):
        asyncio.run(answer)


@pytest.mark.parametrize("view", [Page.as_view(), function, afunction, by_arguments, by_a_helper, of_rest_framework])
def test_inside_a_view_it_is_refused(view: Any) -> None:
    """Each request would have a fresh budget, and a name that stays behind."""
    from django_vcache.admission.views import names

    before = dict(names._named)
    for _ in range(3):
        with pytest.raises(misuse(), match=r"test_decorator_misuse\.py:\d+: throttle\(...\) is called inside a view"):
            answer(view)
    assert names._named == before


def test_a_module_may_be_imported_while_a_request_is_answered() -> None:
    """As Django imports the URLs with the first one."""

    def middleware(request: HttpRequest) -> Any:
        return imported("@throttle('5/m')\ndef view(request):\n    return HttpResponse('seen')\n").view(request)

    assert middleware(get()).content == b"seen"


def test_a_lazy_argument_is_not_evaluated_to_find_out() -> None:
    from django.utils.functional import SimpleLazyObject

    from django_vcache.admission import throttle

    def make(setting: Any) -> Any:
        return throttle("5/m")

    assert make(SimpleLazyObject(lambda: 1 / 0))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("shop.views.search", "a throttle decorates views, not str"),
        (None, "a throttle decorates views, not NoneType"),
        (type("Form", (), {}), r"Form has no dispatch\(\)"),
        (Page.as_view, r"as_view is not called: write as_view\(\)"),
        (generator, "this is a generator"),
        (async_generator, "this is a generator"),
    ],
    ids=["path", "None", "class", "as_view", "generator", "async generator"],
)
def test_what_is_no_view_is_refused(wrong: Any, text: str) -> None:
    from django_vcache.admission import throttle

    with pytest.raises(misuse(), match=rf"throttle\('5/m'\) at .*test_decorator_misuse\.py:\d+: .*{text}"):
        throttle("5/m")(wrong)


def test_a_throttle_given_to_a_throttle_is_refused() -> None:
    from django_vcache.admission import throttle

    with pytest.raises(misuse(), match=r"is given another throttle\(...\) and no view"):
        throttle("5/m")(throttle("100/d"))


def test_around_an_async_view_of_rest_framework_a_limit_by_user_is_refused() -> None:
    """Its authentication may have to be awaited, by a package that adds async views to REST framework."""
    from django_vcache.admission import throttle

    class Later(View):
        def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not to be called")

        def perform_authentication(self, request: Any) -> None: ...

        async def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    limit = throttle("5/m")
    for view in (
        limit(type("Whole", (Later,), {})),
        method_decorator(limit, name="dispatch")(type("One", (Later,), {})),
    ):
        with pytest.raises(misuse(), match=r"an async view of REST framework.*method, such as get\(\)"):
            answer(view.as_view())
    assert list(limit.misplaced) == [f"{__name__}.Whole.1m"]


def test_a_functools_partial_and_a_csrf_exemption_are_views() -> None:
    from django_vcache.admission import throttle

    def view(request: Any, word: str) -> HttpResponse:
        return HttpResponse(word)

    limit = throttle("5/m")
    assert limit(csrf_exempt(functools.partial(view, word="seen")))(RequestFactory().get("/")).content == b"seen"
