"""Keys that are what a client sends: `post:username`, `get:q` and headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from support.server import ValkeyServer
from support.views import Call

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


def sync_view(request: Any) -> HttpResponse:
    """It reads its body by itself, after the key has."""
    return HttpResponse(request.body)


async def async_view(request: Any) -> HttpResponse:
    return HttpResponse(request.body)


views = pytest.mark.parametrize("view", [sync_view, async_view])

factory = RequestFactory()


def form(**fields: str) -> Any:
    body = "&".join(f"{name}={value}" for name, value in fields.items())
    return factory.post("/", body, content_type="application/x-www-form-urlencoded")


def sent_json(fields: Any) -> Any:
    return factory.post("/", json.dumps(fields), content_type="application/json")


def statuses(call: Call, view: Any, *requests: Any) -> list[int]:
    return [call(view, request).status_code for request in requests]


@views
def test_a_field_of_a_form_is_charged_from_any_address(call: Call, view: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    limited = throttle("2/h", key="post:username")(view)
    anna, berta = form(username="anna"), form(username="berta")
    anna.META["REMOTE_ADDR"] = "192.0.2.9"
    assert statuses(call, limited, anna, form(username="anna", password="x"), form(username="anna"), berta) == [
        200,
        200,
        429,
        200,
    ]
    keys = b" ".join(server.keys("*"))
    assert b"anna" not in keys
    assert b"post-username" in keys


@views
@pytest.mark.parametrize("same", ["Anna", " anna ", "ANNA", "\uff41\uff4e\uff4e\uff41"])
def test_spellings_of_one_name_are_one(call: Call, view: Any, same: str) -> None:
    """A view may overlook them too, and then each would be a budget for guessing one password."""
    from django_vcache.admission import throttle

    limited = throttle("1/h", key="post:username")(view)
    assert statuses(call, limited, form(username="anna"), form(username=same)) == [200, 429]


@views
def test_a_field_of_json_is_charged_as_one_of_a_form(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    limited = throttle("1/h", key="post:username")(view)
    requests = sent_json({"username": "anna"}), form(username="anna"), sent_json({"username": 5}), form(username="5")
    assert statuses(call, limited, *requests) == [200, 429, 200, 429]
    of_an_api = factory.post("/", b'{"username": "anna"}', content_type="application/vnd.api+json")
    assert statuses(call, limited, of_an_api) == [429]


@views
def test_a_body_that_was_read_before_has_no_fields(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    async def seen(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    def seen_now(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    limited = throttle("1/h", key="post:username")(seen if view is async_view else seen_now)
    request = sent_json({"username": "anna"})
    assert request.read()
    assert statuses(call, limited, request, sent_json({"username": "anna"}), form()) == [200, 200, 429]


@views
def test_what_has_no_such_field_shares_a_budget(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    limited = throttle("1/h", key="post:username")(view)
    broken = factory.post("/", b"{", content_type="application/json")
    deep = factory.post("/", b"[" * 200_000, content_type="application/json")
    for request in (
        form(username=""),
        sent_json(["anna"]),
        sent_json(None),
        sent_json({"username": None}),
        broken,
        deep,
    ):
        assert call(limited, request).status_code in (200, 429)
    assert statuses(call, limited, form(other="x")) == [429]


@views
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_to_open_the_form_is_not_limited_by_a_field(call: Call, view: Any, method: str) -> None:
    from django_vcache.admission import throttle

    limited = throttle("1/h", key="post:username")(view)
    assert statuses(call, limited, *(factory.generic(method, "/") for _ in range(3))) == [200, 200, 200]


@views
def test_a_multipart_form_is_a_form(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    async def seen(request: Any) -> HttpResponse:
        return HttpResponse(request.POST["username"])

    def seen_now(request: Any) -> HttpResponse:
        return HttpResponse(request.POST["username"])

    limited = throttle("1/h", key="post:username")(seen if view is async_view else seen_now)
    assert call(limited, factory.post("/", {"username": "anna"})).content == b"anna"
    assert statuses(call, limited, factory.post("/", {"username": "anna"})) == [429]


@views
def test_the_view_reads_its_body_after_the_key(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    limited = throttle("5/h", key="post:username")(view)
    assert call(limited, form(username="anna")).content == b"username=anna"
    assert call(limited, sent_json({"username": "anna"})).content == b'{"username": "anna"}'


@views
def test_a_parameter_of_the_url_is_charged(call: Call, view: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    limited = throttle("1/h", key="get:q")(view)

    def search(query: str) -> Any:
        return factory.get(f"/?{query}")

    assert statuses(call, limited, search("q=anna"), search("q=Anna&x=1"), search("q=berta")) == [200, 429, 200]
    # The last one is the one that views take, too.
    assert statuses(call, limited, search("q=other&q=berta")) == [429]
    assert statuses(call, limited, search(""), search("q=")) == [200, 429]
    assert b"anna" not in b" ".join(server.keys("*"))


@views
def test_one_view_may_be_limited_by_address_and_by_name(call: Call, view: Any) -> None:
    from django_vcache.admission import throttle

    limited = throttle("3/h", key="ip")(throttle("1/h", key="post:username")(view))
    assert statuses(call, limited, form(username="a"), form(username="a"), form(username="b")) == [200, 429, 200]
    # What the name refused, the address was not charged.
    assert statuses(call, limited, form(username="c"), form(username="d")) == [200, 429]
