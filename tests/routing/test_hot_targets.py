"""What a hot route calls: hot paths of the wheel, Python functions, and what they may return."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from support.hot import Asked, ask_early, routes

from django_vcache import hotpaths
from django_vcache.routing import Request, Response, hot
from django_vcache.routing._targets import HotPathTarget, Target, target_of


@pytest.mark.parametrize("form", [hotpaths.allow, hotpaths.aallow])
def test_both_forms_name_the_same_hot_path(form: Any) -> None:
    target = target_of(form)
    assert isinstance(target, HotPathTarget)
    assert (target.blocking, target.awaitable) == (hotpaths.allow, hotpaths.aallow)


def test_a_hot_path_that_takes_no_request_is_told_by_the_check() -> None:
    with routes(hot("allow/", hotpaths.allow)):
        [error] = [each for each in run_checks() if each.id == "vcache.E010"]
    assert "a hot route calls it with the request first" in error.msg
    assert "hotpaths" in error.msg


async def awaited(request: Request) -> bytes:
    return b""


def test_python_functions_are_themselves() -> None:
    target = target_of(awaited)
    assert type(target) is Target
    assert (target.is_async, target.function) == (True, awaited)
    assert target.name == f"{__name__}.awaited"
    assert target.problem([]) is None


def answer(result: Any, run: Any, **settings: Any) -> Any:
    async def target(request: Request) -> Any:
        return result

    with routes(hot("t/", target), **settings):
        return run(ask_early(Asked("/t/")))


def test_a_streaming_response_is_refused(run: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot stream: \S+target returned a StreamingHttpResponse\. Place"):
        answer(StreamingHttpResponse([b"a"]), run, DEBUG_PROPAGATE_EXCEPTIONS=True)


def test_what_is_no_answer_is_refused(run: Any) -> None:
    with pytest.raises(TypeError, match=r"a Response or bytes, and \S+target returned dict\. JsonResponse"):
        answer({}, run, DEBUG_PROPAGATE_EXCEPTIONS=True)
    assert answer({}, run).status == 500


def test_a_template_is_rendered(run: Any) -> None:
    settings = {"TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]}
    with routes(**settings):
        template = engines["django"].from_string("hello {{ name }}")
    response = SimpleTemplateResponse(template, {"name": "you"})
    assert answer(response, run, **settings).body == b"hello you"


def test_cookies_are_sent(run: Any) -> None:
    response = HttpResponse("x")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", httponly=True)
    assert answer(response, run).headers["set-cookie"] == "a=1; Path=/\nb=2; HttpOnly; Path=/"


def test_a_response_has_headers_without_case_and_refuses_line_breaks() -> None:
    response = Response(200, [(b"X-A", b"1")], b"")
    response.set("x-a", "2")
    assert (response.get("X-A"), len(response.headers)) == ("2", 1)
    assert response.get("x-b") is None
    for name, value in (("x-a", "1\r\nx: y"), ("x\n", "1"), ("x-a", "1\0")):
        with pytest.raises(ValueError, match="line break"):
            response.set(name, value)


def test_status_204_has_no_length(run: Any) -> None:
    assert "content-length" not in answer(Response(204), run).headers
    assert answer(Response(200), run).headers["content-length"] == "0"
