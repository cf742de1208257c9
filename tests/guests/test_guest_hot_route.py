"""A hot path of a project's own crate as a hot route: the same answer as a view under WSGI and ASGI, and early."""

from __future__ import annotations

import gzip
import json
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from support.hot import Answer, Asked, ask_below, ask_early, ask_view, ask_wsgi, routes

from django_vcache.routing import hot
from django_vcache.routing._targets import HotPathTarget, target_of

BODY = b'{"say": "hello"}'


def everywhere(asked: Asked, run: Any) -> list[Answer]:
    return [ask_wsgi(asked), run(ask_view(asked)), run(ask_early(asked)), run(ask_below(asked))]


@pytest.fixture
def placed(probe: ModuleType, cache: Any) -> Any:
    cache.execute("DEL", "hits:7")
    with routes(
        hot("api/<int:project>/", probe.answer, methods=["POST"], limit=(1000, 2000)),
        hot("text/<str:project>/", probe.aanswer),
        VCACHE={"TRUSTED_PROXIES": 1},
    ):
        yield


@pytest.mark.parametrize("form", ["answer", "aanswer"])
def test_both_forms_name_the_hot_path(probe: ModuleType, form: str) -> None:
    target = target_of(getattr(probe, form))
    assert isinstance(target, HotPathTarget)
    assert (target.blocking, target.awaitable) == (probe.answer, probe.aanswer)
    assert target.problem(["project"]) is None


def test_each_level_answers(placed: None, run: Any) -> None:
    asked = Asked("/api/7/?q=c", "POST", BODY, {"X-Forwarded-For": "192.0.2.7", "Host": "shop.example"})
    for hits, answer in enumerate(everywhere(asked, run), 1):
        assert answer.status == 201, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-host"] == "shop.example"
        assert json.loads(answer.body) == ["POST", "/api/7/", "c", "192.0.2.7", "hello", hits]


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b'{"say"', {}, 400, "bad JSON at line 1"),
        (b'{"say": "no", "refuse": 402}', {}, 402, "no"),
        (gzip.compress(b"x" * 2001, mtime=0), {"Content-Encoding": "gzip"}, 413, "larger than 2000 bytes when decoded"),
        (BODY, {"Content-Encoding": "lzma"}, 415, "is not known"),
        (b"x" * 1001, {}, 413, "the body has 1001 bytes, and 1000 are the limit"),
    ],
)
def test_a_refusal_is_the_answer(
    placed: None, run: Any, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    for answer in everywhere(Asked("/api/7/", "POST", body, headers), run):
        assert answer.status == status
        assert text in answer.body.decode()
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_number_that_the_hot_path_does_not_take_is_a_404(placed: None, run: Any) -> None:
    asked = Asked(f"/api/{2**64}/", "POST", BODY)
    # It is not for the table, so Django's handler has it.
    assert [ask_wsgi(asked).status, run(ask_view(asked)).status] == [404, 404]
    with pytest.raises(AssertionError, match="reached Django's handler"):
        run(ask_early(asked))


def test_an_argument_of_another_type_is_a_500(placed: None, run: Any, caplog: Any) -> None:
    for answer in everywhere(Asked("/text/x/", "POST", BODY), run):
        assert answer.status == 500
    assert "'project'" in caplog.text


def test_the_check_knows_that_it_takes_a_request(probe: ModuleType) -> None:
    with routes(hot("a/<int:project>/", probe.answer), hot("b/", probe.fails), hot("c/<int:pk>/", probe.answer)):
        wrong, misfit = [each.msg for each in run_checks() if each.id == "vcache.E010"]
    assert "probe_guest" in wrong
    assert "fails takes (why: str)" in wrong
    assert "answer(req, project) is called as (request, pk=...), and that fails" in misfit
