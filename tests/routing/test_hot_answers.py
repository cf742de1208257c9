"""What a target may return, and what becomes of it: the same at each level, and never shared between requests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.http import FileResponse, HttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from support.hot import Answer, Asked, ask_below, ask_early, ask_view, ask_wsgi, routes

from django_vcache.routing import Request, Response, hot

TEXT = (b"Content-Type", b"text/plain")


def everywhere(asked: Asked, run: Any) -> list[Answer]:
    return [ask_wsgi(asked), run(ask_view(asked)), run(ask_early(asked)), run(ask_below(asked))]


def returning(result: Any) -> Callable[..., Any]:
    async def target(request: Request) -> Any:
        return result

    return target


def test_an_answer_that_is_returned_again_stays_as_it_was(run: Any) -> None:
    pong = Response(200, [TEXT], b"pong")
    with routes(hot("ping/", returning(pong), cors=["https://a.example", "https://b.example"])):
        for ask in (ask_below, ask_early, ask_view):
            for method, origin in (("GET", "a"), ("HEAD", "a"), ("GET", "b"), ("GET", "a")):
                answer = run(ask(Asked("/ping/", method, headers={"Origin": f"https://{origin}.example"})))
                assert answer.status == 200
                assert answer.headers["access-control-allow-origin"] == f"https://{origin}.example"
                assert answer.headers["content-length"] == "4"
                assert answer.body == (b"" if method == "HEAD" else b"pong")
    assert (pong.headers, pong.body) == ([TEXT], b"pong")


def test_an_error_that_is_returned_again_is_logged_each_time(run: Any, caplog: Any) -> None:
    gone = Response(410, [], b"")
    with routes(hot("gone/", returning(gone))):
        for _ in range(2):
            assert run(ask_early(Asked("/gone/"))).status == 410
    assert [record.getMessage() for record in caplog.records if record.name == "django.request"] == ["Gone: /gone/"] * 2


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Response("200", []), "whose status is no number from 200 to 599, but '200'"),  # type: ignore[arg-type]
        (Response(100, []), "but 100"),
        (Response(999, []), "but 999"),
        (Response(200, [], "text"), "whose body is not bytes, but str"),  # type: ignore[arg-type]
        (Response(200, [("X-A", "1")]), "('X-A', '1'): write it as (b'X-A', b'1')"),  # type: ignore[list-item]
        (Response(200, [(b"X-A", b"1\r\nX-B: 2")]), "header that cannot be sent"),
        (Response(200, [(b"X A", b"1")]), "header that cannot be sent"),
        (Response(200, [(b"Set-Cookie", b"a=\xe9")]), "header that cannot be sent"),
        (Response(200, [(b"Content-Length", b"3")], b"four"), "Content-Length: 3 and a body of 4"),
        (Response(200, [(b"Transfer-Encoding", b"chunked")]), "Transfer-Encoding"),
        ({"a": 1}, "returned dict. JsonResponse makes one of it"),
        (None, "returned None"),
    ],
)
def test_what_cannot_be_sent_is_a_500_at_each_level(run: Any, caplog: Any, result: Any, text: str) -> None:
    with routes(hot("odd/", returning(result)), DEBUG=False):
        for answer in everywhere(Asked("/odd/"), run):
            assert answer.status == 500
    errors = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert len(errors) == 4
    assert all(text in error and "test_hot_answers.returning.<locals>.target" in error for error in errors), errors


def test_a_coroutine_that_was_not_awaited_is_told(run: Any, caplog: Any) -> None:
    inner = returning(b"x")

    def forgets(request: Request) -> Any:
        return inner(request)

    with routes(hot("odd/", forgets), DEBUG=False):
        assert run(ask_early(Asked("/odd/"))).status == 500
    assert "returned coroutine. Is an `await` missing" in caplog.text


@pytest.mark.parametrize(
    ("result", "headers", "body"),
    [
        (Response(200, {b"X-A": b"1"}, b"x"), {"x-a": "1"}, b"x"),
        (Response(200, [TEXT], bytearray(b"x")), {"content-type": "text/plain"}, b"x"),  # type: ignore[arg-type]
        (Response(204, [], b"dropped"), {}, b""),
        (
            Response(200, [(b"Set-Cookie", b"a=1; Path=/x; Priority=High"), (b"Set-Cookie", b"a=2; Path=/y")], b""),
            {"set-cookie": "a=1; Path=/x; Priority=High\na=2; Path=/y"},
            b"",
        ),
    ],
)
def test_what_can_be_sent_is_alike_at_each_level(run: Any, result: Any, headers: dict[str, str], body: bytes) -> None:
    with routes(hot("fine/", returning(result))):
        for answer in everywhere(Asked("/fine/"), run):
            assert answer.status == result.status
            assert answer.body == body
            assert {name: answer.headers.get(name) for name in headers} == headers


@pytest.mark.parametrize("is_async", [False, True])
def test_a_template_is_rendered_on_the_thread_of_the_request(run: Any, is_async: bool) -> None:
    def where() -> str:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return "a thread"
        return "the loop"

    def sync(request: Request) -> Any:
        template = engines["django"].from_string("{{ where }}")
        return SimpleTemplateResponse(template, {"where": where})

    async def awaited(request: Request) -> Any:
        return sync(request)

    templates = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    with routes(hot("t/", awaited if is_async else sync), TEMPLATES=templates):
        for ask in (ask_view, ask_early, ask_below):
            assert run(ask(Asked("/t/"))).body == b"a thread"
        assert ask_wsgi(Asked("/t/")).status == 200


def test_a_file_that_is_not_sent_is_closed(run: Any) -> None:
    file = io.BytesIO(b"x")
    with routes(hot("file/", returning(FileResponse(file))), DEBUG=False):
        assert run(ask_early(Asked("/file/"))).status == 500
    assert file.closed


class Panic(BaseException):
    """As a panic in Rust looks to Python."""


def test_what_is_no_exception_is_an_answer_below_asgi(run: Any, caplog: Any) -> None:
    async def panics(request: Request) -> Any:
        raise Panic("at the worst moment")

    async def ends(request: Request) -> Any:
        raise SystemExit(3)

    def blocking(request: Request) -> Any:
        raise Panic("at the worst moment")

    with routes(hot("panics/", panics), hot("ends/", ends), hot("blocking/", blocking)):
        for path in ("/panics/", "/ends/", "/blocking/"):
            caplog.clear()
            answer = run(ask_below(Asked(path)))
            assert (answer.status, answer.headers["connection"]) == (500, "close")
            assert f"Exception in the hot route of {path}" in caplog.text


def test_a_body_that_a_middleware_has_read_is_an_error_and_not_empty(run: Any, caplog: Any) -> None:
    async def length(request: Request) -> HttpResponse:
        return HttpResponse(str(len(request.body)))

    form = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
    asked = Asked("/form/", "POST", form, {"Content-Type": "multipart/form-data; boundary=b"})
    with routes(hot("form/", length), MIDDLEWARE=["routing.test_hot_answers.reads_the_form"], DEBUG=False):
        assert [ask_wsgi(asked).status, run(ask_view(asked)).status] == [500, 500]
        assert run(ask_early(asked)).body == str(len(form)).encode()
    assert "the body was read before the hot route could read it" in caplog.text


def reads_the_form(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        assert request.POST["a"] == "1"
        return get_response(request)

    return middleware


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("GET", "its parameters are those of request.query"),
        ("POST", "a form is in request.as_django().POST"),
        ("user", "Place this view with path() instead"),
        ("session", "Place this view with path() instead"),
        ("META", "it has headers, client, query_string and scheme"),
    ],
)
def test_what_only_djangos_request_has_is_told(run: Any, caplog: Any, name: str, hint: str) -> None:
    async def target(request: Request) -> Any:
        return getattr(request, name)

    with routes(hot("a/", target), DEBUG=False):
        assert run(ask_early(Asked("/a/"))).status == 500
    assert f"a hot route's Request has no attribute '{name}': " in caplog.text
    assert hint in caplog.text


def test_several_hosts_are_refused_whatever_came_before(run: Any) -> None:
    def scope_with(hosts: list[bytes]) -> Any:
        async def ask() -> int:
            from django_vcache.asgi import ASGIApplication, ASGIHandler

            sent: list[Any] = []

            coming = [{"type": "http.request", "body": b""}]

            async def receive() -> Any:
                if not coming:
                    # The client stays.
                    await asyncio.Event().wait()
                return coming.pop()

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "GET",
                "path": "/a/",
                "query_string": b"",
                "headers": [(b"host", host) for host in hosts],
                "client": ("192.0.2.9", 4711),
            }
            await ASGIApplication(ASGIHandler())(scope, receive, send)
            status: int = sent[0]["status"]
            return status

        return ask

    async def main() -> None:
        for hosts, status in (
            ([b"a.example", b"evil"], 400),
            ([b"a.example"], 200),
            ([b"a.example", b"evil"], 400),
            ([b"a.example"], 200),
        ):
            assert await scope_with(hosts)() == status, hosts

    with routes(hot("a/", returning(b"x")), ALLOWED_HOSTS=["a.example"], DEBUG=False):
        run(main())
