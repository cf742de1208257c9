"""What a refused client gets, said at one place for the whole project, and the signal."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import override_settings
from support.views import Call, async_function, functions, get, shapes, statuses, sync_function

pytestmark = pytest.mark.usefixtures("default_alias", "patient")

PAGES = {
    "429.html": "{{ status }}|{{ detail }}|{{ limit }}|{{ retry_after }}|{{ request.path }}",
    "bad.html": "{% if %}",
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [("django.template.loaders.locmem.Loader", PAGES)],
            "context_processors": ["django.template.context_processors.request"],
        },
    }
]


class TooFast(Exception):
    decision: Any = None


class Wordless(Exception):
    def __init__(self) -> None: ...


def too_fast(request: Any, decision: Any) -> HttpResponse:
    path = "nowhere" if request is None else request.path
    return HttpResponse(f"{path}: {decision.refused_by.kind}", status=420)


async def too_fast_later(request: Any, decision: Any) -> HttpResponse:
    await asyncio.sleep(0)
    return too_fast(request, decision)


@pytest.fixture(autouse=True)
def errors() -> Iterator[types.ModuleType]:
    """A module of the project with what `VCACHE["REFUSAL"]` may name."""
    module: Any = types.ModuleType("shop_errors")
    module.TooFast, module.too_fast, module.too_fast_later = TooFast, too_fast, too_fast_later
    module.number, module.Form, module.Wordless = 5, type("Form", (), {}), Wordless
    sys.modules["shop_errors"] = module
    yield module
    del sys.modules["shop_errors"]


@functions
def test_json(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    with override_settings(VCACHE={"REFUSAL": "json"}):
        view = shape(throttle("1/h", name="exports"))
        assert statuses(call, view, 1) == [200]
        refused = call(view)
        never = call(shape(throttle("0/h")))
    assert refused.status_code == 429
    assert refused.headers["Content-Type"] == "application/json"
    body = json.loads(refused.content)
    assert body.keys() == {"detail", "status", "limit", "retry_after"}
    assert body["detail"] == "Too many requests: refused by the throttle 'exports'."
    assert (body["status"], body["limit"]) == (429, "exports")
    assert str(body["retry_after"]) == refused.headers["Retry-After"]
    assert json.loads(never.content) == {
        "detail": "Too many requests. It asks for more than the limit ever allows.",
        "status": 429,
        "limit": None,
        "retry_after": None,
    }


@functions
def test_a_template(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    with override_settings(VCACHE={"REFUSAL": "template:429.html"}, TEMPLATES=TEMPLATES):
        refused = call(shape(throttle("0/h", name="closed")))
    assert refused.status_code == 429
    assert refused.headers["Content-Type"].startswith("text/html")
    detail = (
        "Too many requests: refused by the throttle &#x27;closed&#x27;. It asks for more than the limit ever allows."
    )
    assert refused.content.decode() == f"429|{detail}|closed|None|/"


@shapes
def test_a_callable(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    with override_settings(VCACHE={"REFUSAL": "shop_errors.too_fast"}):
        refused = call(shape(throttle("0/h")))
    assert (refused.status_code, refused.content) == (420, b"/: throttle")


def test_a_callable_may_be_async_for_async_views(call: Call) -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    with override_settings(VCACHE={"REFUSAL": "shop_errors.too_fast_later"}):
        assert call(async_function(throttle("0/h"))).status_code == 420
        with pytest.raises(
            ConfigurationError, match=r"shop_errors\.too_fast_later\), which a throttle calls, is async, and"
        ):
            call(sync_function(throttle("0/h")))


@shapes
def test_an_exception(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("0/h"))
    with override_settings(VCACHE={"REFUSAL": "shop_errors.TooFast"}):
        with pytest.raises(
            TooFast, match=r"^Too many requests\. It asks for more than the limit ever allows\.$"
        ) as caught:
            call(view)
        assert caught.value.decision.refused_by.kind == "throttle"
    with (
        override_settings(VCACHE={"REFUSAL": "django.core.exceptions.PermissionDenied"}),
        pytest.raises(PermissionDenied),
    ):
        call(view)


@functions
def test_a_decorators_own_response_goes_before(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    with override_settings(VCACHE={"REFUSAL": "shop_errors.TooFast"}):
        own = throttle("0/h", response=lambda request, decision: HttpResponse(status=418))
        assert call(shape(own)).status_code == 418


def test_what_a_view_decides_by_itself_is_answered_in_the_same_way() -> None:
    from django_vcache.admission import Gate, Throttle
    from django_vcache.exceptions import ConfigurationError

    decision = Gate([Throttle("org", "0/h")]).admit({"org": 1})
    with override_settings(VCACHE={"REFUSAL": "json"}):
        assert json.loads(decision.response().content)["limit"] == "org"
    with override_settings(VCACHE={"REFUSAL": "template:429.html"}, TEMPLATES=TEMPLATES):
        assert b"|org|" in decision.response().content
    # It does not know the request.
    with override_settings(VCACHE={"REFUSAL": "shop_errors.too_fast"}):
        assert decision.response().content == b"nowhere: throttle"
    with override_settings(VCACHE={"REFUSAL": "shop_errors.TooFast"}), pytest.raises(TooFast):
        decision.response()
    with (
        override_settings(VCACHE={"REFUSAL": "shop_errors.too_fast_later"}),
        pytest.raises(ConfigurationError, match=r"too_fast_later', which returned coroutine.*must not be async"),
    ):
        decision.response()


def test_a_full_stream_is_the_servers_trouble_and_not_the_clients() -> None:
    from django_vcache.admission import Gate, Stream

    gate = Gate(stream=Stream("events", maxlen=1))
    assert gate.admit({"org": 1}, payload=b"first")
    decision = gate.admit({"org": 1}, payload=b"second")
    assert decision.refused_by is not None
    assert decision.refused_by.kind == "stream"
    response = decision.response()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.content == b"Service unavailable: events is full.\n"
    with override_settings(VCACHE={"REFUSAL": "json"}):
        assert json.loads(decision.response().content)["status"] == 503


@pytest.mark.parametrize(
    "value", ["", "xml", "429.html.", "template:", "page:429.html", "too fast.now", 5, None, ["json"]]
)
def test_what_is_no_way_to_refuse_is_a_mistake_in_the_settings(value: Any) -> None:
    from django_vcache.admission.settings import problems

    [problem] = problems({"REFUSAL": value})
    assert problem == f"VCACHE['REFUSAL'] must be 'text', 'json', 'template:<name>' or a dotted path, not {value!r}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("shop_errors.missing", "ImportError"),
        ("nowhere.at.all", "ModuleNotFoundError"),
        ("shop_errors.number", "no callable and no class of exceptions"),
        ("shop_errors.Form", "no callable and no class of exceptions"),
        ("shop_errors.Wordless", "TypeError"),
        ("template:missing.html", "TemplateDoesNotExist"),
        ("template:bad.html", "TemplateSyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_found_by_the_check(value: str, text: str) -> None:
    from django.core.checks import run_checks

    def ids(refusal: str) -> dict[str | None, str]:
        with override_settings(VCACHE={"REFUSAL": refusal}, TEMPLATES=TEMPLATES):
            return {message.id: message.msg for message in run_checks(tags=["vcache"])}

    assert f"VCACHE['REFUSAL'] names {value!r}" in ids(value)["vcache.E008"]
    assert text in ids(value)["vcache.E008"]
    for fine in ("text", "json", "template:429.html", "shop_errors.too_fast", "shop_errors.TooFast"):
        assert "vcache.E008" not in ids(fine)


# The signal.


@pytest.fixture
def received() -> Iterator[list[dict[str, Any]]]:
    """What the signal was sent with."""
    from django_vcache.admission import limit_exceeded

    found: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        found.append(kwargs)

    limit_exceeded.connect(receive)
    yield found
    limit_exceeded.disconnect(receive)


@shapes
def test_each_refusal_is_told_to_receivers(call: Call, shape: Any, received: list[Any]) -> None:
    from django_vcache.admission import decisions_of, throttle
    from django_vcache.admission.views.decorator import ViewThrottle

    view = shape(throttle("1/h"))
    assert statuses(call, view, 1) == [200]
    assert received == []
    refused = get()
    call(view, refused)
    [told] = received
    assert told["sender"] is ViewThrottle
    assert told["request"] is refused
    assert (told["decision"],) == decisions_of(refused)
    assert told["blocked"] is True


@functions
def test_also_one_that_does_not_block(call: Call, shape: Any, received: list[Any]) -> None:
    from django_vcache.admission import throttle

    assert statuses(call, shape(throttle("1/h", block=False)), 3) == [200, 200, 200]
    assert [told["blocked"] for told in received] == [False, False]


@functions
def test_a_receiver_that_fails_changes_nothing(call: Call, shape: Any, caplog: pytest.LogCaptureFixture) -> None:
    from django_vcache.admission import limit_exceeded, throttle

    def fails(**kwargs: Any) -> None:
        raise ZeroDivisionError("of the receiver")

    limit_exceeded.connect(fails)
    try:
        assert call(shape(throttle("0/h"))).status_code == 429
    finally:
        limit_exceeded.disconnect(fails)
    assert "fails" in caplog.text


def test_a_receiver_may_be_async(call: Call) -> None:
    from django_vcache.admission import limit_exceeded, throttle

    seen: list[Any] = []

    async def receive(decision: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        seen.append(decision.allowed)

    limit_exceeded.connect(receive)
    try:
        assert call(async_function(throttle("0/h"))).status_code == 429
    finally:
        limit_exceeded.disconnect(receive)
    assert seen == [False]
