"""System checks: what is wrong in settings and decorators is found before a request is."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.http import HttpResponse
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from django.urls import include, path
from support.caches import cache_setting
from support.checks import LOCMEM, found
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("no_other_limits")


def test_limits_that_are_off_are_told_at_deployment_and_need_no_server() -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("off", "1/d", using="nowhere")
    assert "'nowhere'" in found(deploy=True)["vcache.E005"]
    assert found(VCACHE={"ENABLED": False}) == {}
    off = found(deploy=True, VCACHE={"ENABLED": False})
    assert list(off) == ["vcache.W010"]
    assert "ENABLED" in off["vcache.W010"]
    assert throttle.using == "nowhere"


def test_a_cache_of_djangos_may_count_in_a_test_run_only() -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("local", "1/d", using="local")
    aliases = {"default": LOCMEM, "local": LOCMEM}
    assert "ENABLED" in found(CACHES=aliases)["vcache.E005"]
    setup_test_environment()
    try:
        assert found(CACHES=aliases) == {}
    finally:
        teardown_test_environment()
    assert throttle.using == "local"


def test_a_project_without_limits_has_nothing_to_say() -> None:
    assert found(deploy=True) == {}
    assert found(deploy=True, VCACHE={}) == {}


def test_what_is_wrong_in_vcache_is_an_error_each() -> None:
    with override_settings(VCACHE={"TRUSTED_PROXIES": "one", "GATE": []}):
        messages = run_checks(tags=["vcache"], include_deployment_checks=True)
    assert [message.id for message in messages] == ["vcache.E001", "vcache.E001"]
    texts = " ".join(message.msg for message in messages)
    assert "TRUSTED_PROXIES" in texts
    assert "Did you mean GATES" in texts


def test_a_decorator_is_not_blamed_for_a_mistake_in_vcache(server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    @throttle("1/s")
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    messages = found(VCACHE={"TRUSTED_PROXIES": "one"}, CACHES={"default": cache_setting(server)})
    assert messages.keys() == {"vcache.E001"}
    assert view


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of views, each of them at its own URL, and returns its name for ROOT_URLCONF."""
    name = "views_of_a_test"

    def write(source: str) -> str:
        needed = {"django.http": "HttpResponse", "django.urls": "path", "django_vcache.admission": "throttle"}
        head = "".join(f"from {module} import {what}\n" for module, what in needed.items())
        (tmp_path / f"{name}.py").write_text(head + source)
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("decorator", "text"),
    [
        ("@throttle('often')", "'often'.*not a rate"),
        ("@throttle('10/m', burst=0)", "burst"),
        ("@throttle('10/m', key='someone')", "key"),
        ("@throttle('10/m', name='a b')", "a b"),
        ("@throttle('10/m', block='no')", "block is 'no'"),
        ("@throttle", r"parentheses.*@throttle\('100/m'\)"),
    ],
)
def test_a_decorator_that_cannot_work_is_an_error_that_says_where_it_is(
    written: Any, server: ValkeyServer, decorator: str, text: str
) -> None:
    """It is raised when the URLs are imported, which the check does if it was not done before."""
    urls = written(f"{decorator}\ndef view(request):\n    return HttpResponse()\nurlpatterns = [path('', view)]\n")
    messages = found(ROOT_URLCONF=urls, CACHES={"default": cache_setting(server)})
    assert messages.keys() == {"vcache.E002"}
    assert re.search(text, messages["vcache.E002"].replace('"', "'"))
    assert "views_of_a_test.py:4" in messages["vcache.E002"]
    with pytest.raises(Exception, match=r"vcache\.E002"), override_settings(ROOT_URLCONF=urls):
        call_command("check", "--tag", "vcache", stderr=io.StringIO())


def test_a_throttle_where_a_url_wants_a_view_is_an_error(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    module.urlpatterns = [path("", throttle("5/m"))]
    messages = found(ROOT_URLCONF=module.__name__, CACHES={"default": cache_setting(server)})
    assert messages.keys() == {"vcache.E002"}
    assert "a URL leads to it and not to a view" in messages["vcache.E002"]
    assert "test_checks.py:" in messages["vcache.E002"]


def test_a_callable_rate_is_not_called_by_a_check(server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    @throttle(lambda request: 1 / 0)
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    assert found(CACHES={"default": cache_setting(server)}) == {}
    assert view


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nowhere.at.all", "nowhere.at.all.*cannot be imported.*No module named"),
        ("limits_of_a_test.missing", "cannot be imported"),
        ("limits_of_a_test.number", "is not a django_vcache.admission.Gate, nor a Throttle or Quota, but int"),
        ("os.path.join", "is not a django_vcache.admission.Gate"),
        ("limits_of_a_test_that_fails.gate", "cannot be imported: ValueError: .*burst"),
    ],
)
def test_a_gate_that_cannot_be_imported_is_an_error(
    module: Any, path: str, text: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, server: ValkeyServer
) -> None:
    module.number = 5
    source = "from django_vcache.admission import Gate, Throttle\ngate = Gate([Throttle('org', '1/s', burst=0)])\n"
    (tmp_path / "limits_of_a_test_that_fails.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    messages = found(VCACHE={"GATES": [path]}, CACHES={"default": cache_setting(server)})
    assert messages.keys() == {"vcache.E003"}
    assert re.search(text, messages["vcache.E003"])


def test_a_throttle_or_a_quota_may_stand_where_a_gate_does(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota, Throttle

    module.lookups, module.mails = Throttle("org", "1/s"), Quota("mails", 100, "day", using="mails", key="org")
    gates = {"GATES": ["limits_of_a_test.lookups", "limits_of_a_test.mails"]}
    setting = cache_setting(server)
    assert found(VCACHE=gates, CACHES={"default": setting, "mails": setting}) == {}
    assert "'mails'" in found(VCACHE=gates, CACHES={"default": setting})["vcache.E005"]


def test_a_stream_that_cannot_be_imported_is_an_error(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    module.stream = Stream("events")
    module.gate = Gate([Throttle("org", "1/s")])
    module.number = 5
    settings = {"CACHES": {"default": cache_setting(server, KEY_PREFIX="shop", CLEAR="prefix")}}
    fine = ["limits_of_a_test.stream", "limits_of_a_test.gate"]
    assert found(VCACHE={"STREAMS": fine}, **settings) == {}
    wrong = found(VCACHE={"STREAMS": ["limits_of_a_test.number"]}, **settings)
    assert "'limits_of_a_test.number' is not a django_vcache.admission.Stream, but int" in wrong["vcache.E003"]
    assert "cannot be imported" in found(VCACHE={"STREAMS": ["limits_of_a_test.no"]}, **settings)["vcache.E003"]


def test_rates_of_rest_framework_are_checked_where_ours_read_them(server: ValkeyServer) -> None:
    pytest.importorskip("rest_framework")
    ours = [f"django_vcache.rest_framework.Valkey{kind}RateThrottle" for kind in ("Anon", "User", "Scoped")]

    def of(rates: dict[str, str | None], classes: list[str]) -> dict[str, str]:
        framework = {"DEFAULT_THROTTLE_RATES": rates, "DEFAULT_THROTTLE_CLASSES": classes}
        return found(REST_FRAMEWORK=framework, CACHES={"default": cache_setting(server)})

    rates: dict[str, str | None] = {"anon": "often", "user": "10/m", "theirs": "5/fortnight"}
    messages = of(rates, ours)
    assert messages.keys() == {"vcache.E004"}
    assert "DEFAULT_THROTTLE_RATES'['anon']" in messages["vcache.E004"].replace("']['", "'['")
    assert of(rates, []) == of(rates, ["rest_framework.throttling.AnonRateThrottle"]) == {}
    for rate in ("10/m", "10/30s", "5/minutes", None):
        assert of({"user": rate}, ours[1:]) == {}
    # That they are looked at makes nobody count on the default alias.
    framework = {"DEFAULT_THROTTLE_RATES": {"user": "10/m"}, "DEFAULT_THROTTLE_CLASSES": ours[1:]}
    caches = {"default": LOCMEM, "limits": cache_setting(server)}
    for _ in range(2):
        assert found(REST_FRAMEWORK=framework, VCACHE={"THROTTLE_ALIAS": "limits"}, CACHES=caches) == {}


def test_a_throttle_of_rest_frameworks_may_read_rates_by_itself(module: Any, server: ValkeyServer) -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")

    class Reads(framework.UserRateThrottle):  # type: ignore[misc,name-defined]
        def parse_rate(self, rate: Any) -> Any:
            return self.periods[rate]

    module.Reads = Reads
    module.Rated = type("Rated", (framework.UserRateThrottle,), {"rate": "10/m"})
    module.Wrong = type("Wrong", (framework.UserRateThrottle,), {"rate": "seldom"})

    def of(*classes: str) -> dict[str, str]:
        named = [f"{module.__name__}.{each}" for each in classes]
        rest = {"DEFAULT_THROTTLE_RATES": {"user": "often"}, "DEFAULT_THROTTLE_CLASSES": named}
        return found(REST_FRAMEWORK=rest, CACHES={"default": cache_setting(server)})

    assert of("Reads", "Rated", "Missing") == {}
    assert "Wrong.rate: " in of("Wrong")["vcache.E004"]


def test_a_throttle_of_rest_frameworks_that_cannot_work_is_found_wherever_it_stands(
    module: Any, server: ValkeyServer
) -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")
    from rest_framework.decorators import action
    from rest_framework.routers import SimpleRouter
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    def throttle(name: str, base: Any = framework.UserRateThrottle, **attributes: Any) -> Any:
        return type(name, (base,), attributes)

    scoped = {"THROTTLE_RATES": {"fine": "5/m", "odd": "sometimes", "rare": "now and then"}}
    Scoped = throttle("Scoped", framework.ScopedRateThrottle, **scoped)

    class Page(APIView):
        throttle_classes = (
            throttle("OfView", rate="seldom"),
            throttle("OwnRates", THROTTLE_RATES={"user": "at times"}),
            throttle("NoBurst", rate="5/m", burst=0),
            throttle("NoOutage", rate="5/m", outage="shrug"),
            throttle("Later", rate="5/m", burst=property(lambda self: 5)),
            throttle("Asked", scope="late", THROTTLE_RATES={"late": "?"}, get_rate=lambda self: "5/m"),
            throttle("Changing", rate=property(lambda self: "5/m")),
            Scoped,
        )
        throttle_scope = "odd"

    class Fine(Page):
        throttle_classes = (Scoped,)
        throttle_scope = "fine"

    class Pages(ViewSet):
        throttle_classes = ()
        throttle_scope = "fine"

        @action(detail=False, throttle_classes=[Scoped], throttle_scope="rare")
        def some(self, request: Any) -> HttpResponse:
            return HttpResponse()

    router = SimpleRouter()
    router.register("pages", Pages, basename="pages")
    module.DefaultBurst = throttle("DefaultBurst", burst=0)
    module.urlpatterns = [
        path("page", Page.as_view()),
        path("again", Page.as_view()),
        path("fine", Fine.as_view()),
        path("unscoped", Fine.as_view(throttle_scope=None)),
        path("router/", include((router.urls, "router"))),
    ]
    with override_settings(
        ROOT_URLCONF=module.__name__,
        CACHES={"default": cache_setting(server)},
        REST_FRAMEWORK={"DEFAULT_THROTTLE_CLASSES": [f"{module.__name__}.DefaultBurst"]},
    ):
        messages = run_checks(tags=["vcache"])
    assert {message.id for message in messages} == {"vcache.E004"}
    texts = [message.msg for message in messages]
    assert [text.partition(": ")[0] for text in texts] == [
        "DefaultBurst",
        "NoBurst",
        "NoOutage",
        "OfView.rate",
        "OwnRates.THROTTLE_RATES['user']",
        "Scoped.THROTTLE_RATES['odd']",
        "Scoped.THROTTLE_RATES['rare']",
    ]
    assert "burst" in texts[0]
    assert "sometimes" in texts[5]


def test_an_alias_that_cannot_count_is_an_error(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Stream, Throttle, throttle

    other = found(VCACHE={"THROTTLE_ALIAS": "other"})
    assert "'other', which is not in CACHES" in other["vcache.E005"]
    foreign = found(VCACHE={"THROTTLE_ALIAS": "default"}, CACHES={"default": LOCMEM})
    assert "LocMemCache" in foreign["vcache.E005"]
    module.gate = Gate([Throttle("org", "1/s")], using="gates")
    gates = found(VCACHE={"GATES": ["limits_of_a_test.gate"]}, CACHES={"default": cache_setting(server)})
    assert "'gates'" in gates["vcache.E005"]
    module.events = Stream("events", using="streams")
    streams = found(VCACHE={"STREAMS": ["limits_of_a_test.events"]}, CACHES={"default": cache_setting(server)})
    assert "'streams'" in streams["vcache.E005"]

    del module.gate, module.events
    module.bare = Gate([Throttle("org", "1/s")], using="default")
    streamless = {"STREAMS": ["limits_of_a_test.bare"]}
    assert found(VCACHE=streamless, CACHES={"default": cache_setting(server)}) == {}
    del module.bare

    @throttle("1/s", using="typo")
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    module.urlpatterns = [path("", view)]
    typo = found(ROOT_URLCONF=module.__name__, CACHES={"default": cache_setting(server)})
    assert "'typo'" in typo["vcache.E005"]


def test_the_aliases_of_rest_frameworks_throttles_are_those_of_settings_and_views(
    module: Any, server: ValkeyServer
) -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")
    from django.core.cache import caches
    from rest_framework.decorators import action
    from rest_framework.routers import SimpleRouter
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    def throttle(**attributes: Any) -> Any:
        return type("Own", (framework.UserRateThrottle,), attributes)

    class Page(APIView):
        throttle_classes = (throttle(using="of a view"),)

    class Pages(ViewSet):
        throttle_classes = ()

        @action(detail=False, throttle_classes=[throttle(using="of an action")])
        def some(self, request: Any) -> HttpResponse:
            return HttpResponse()

    class Unthrottled(APIView):
        throttle_classes = (throttle(using="of nobody"),)

    class Dynamic(APIView):
        throttle_classes = property(lambda self: [])

    router = SimpleRouter()
    router.register("pages", Pages, basename="pages")
    setting = cache_setting(server)
    with override_settings(CACHES={"default": LOCMEM, "counts": setting}):
        module.Cached = throttle(cache=caches["counts"])
        module.Foreign = throttle(cache=caches["default"])
        module.Default = throttle()
    module.urlpatterns = [
        path("page", Page.as_view()),
        path("router/", include((router.urls, "router"))),
        path("unthrottled", Unthrottled.as_view(throttle_classes=[])),
        path("dynamic", Dynamic.as_view()),
    ]

    def of(*classes: str, **settings: Any) -> list[str]:
        rest = {"DEFAULT_THROTTLE_CLASSES": [f"{module.__name__}.{each}" for each in classes]}
        with override_settings(REST_FRAMEWORK=rest, CACHES={"default": LOCMEM, "counts": setting}, **settings):
            return [message.msg for message in run_checks(tags=["vcache"])]

    first, second = of(ROOT_URLCONF=module.__name__)
    assert ("'of a view'" in first, "'of an action'" in second) == (True, True)
    assert of("Cached", "Foreign") == []
    [message] = of("Default")
    assert "LocMemCache" in message
