"""`examples/ingest`: its pages, as a server sends them and as a browser shows them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chromium import Chromium
from support.server import wait_until
from support.tracker import Client, Tracker, event

XSS = "</pre></code><script>window.hacked=1</script><img src=x onerror=window.hacked=1>'\"&"


def hostile(text: str) -> dict[str, object]:
    """An event with a text in each place that a page shows."""
    frame = {
        "function": text,
        "filename": text,
        "module": text,
        "lineno": 3,
        "in_app": True,
        "pre_context": [text],
        "context_line": text,
        "post_context": [text],
        "vars": {text: text},
    }
    return {
        "level": "error",
        "message": text,
        "transaction": text,
        "release": text,
        "environment": text,
        "exception": {"values": [{"type": text, "value": text, "stacktrace": {"frames": [frame]}}]},
        "tags": {text: text},
        "request": {"method": text, "url": f"javascript:{text}"},
        "breadcrumbs": {"values": [{"category": text, "message": text, "type": text}]},
    }


def store(tracker: Tracker, client: Client, *events: dict[str, object]) -> list[int]:
    """Sends events, and waits until they are rows: the ids of their issues, in no order."""
    for data in events:
        assert client.envelope(event(**data)).status == 200

    def stored() -> list[int]:
        rows = tracker.query(f"SELECT issue_id FROM tracker_event WHERE project_id = {client.id}")
        return [row[0] for row in rows] if len(rows) >= len(events) else []

    with tracker.consumer():
        return wait_until(stored, what="the events are stored")


# Each lacks what the page would show of it, or has something else in its place.
SPARSE: list[dict[str, object]] = [
    {"breadcrumbs": [{"timestamp": 1, "message": "clicked"}]},
    {"breadcrumbs": {"values": [{}, None, 3, "text", {"type": {}, "category": [], "message": {"a": 1}}]}},
    {"breadcrumbs": [{"type": "click"}]},
    {"request": {}},
    {"request": {"url": "/checkout/"}},
    {"request": {"method": [], "url": {"a": 1}}},
    {"exception": [{}]},
    {"exception": {"values": [{"stacktrace": {"frames": [{}, {"in_app": True, "vars": {"": None}}]}}]}},
    {"exception": [{"stacktrace": {"frames": [{"pre_context": [None], "post_context": [None], "lineno": None}]}}]},
    {"tags": [[None, None], [], ["a", {}]]},
    {"message": None, "level": None, "transaction": None},
]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path)
    yield browser
    browser.close()


def test_pages_escape_all_that_an_event_holds(tracker: Tracker, client: Client) -> None:
    [issue] = store(tracker, client, hostile(XSS))
    tracker.manage(
        "shell", "-c", f"from tracker.models import *; Project.objects.filter(pk={client.id}).update(name={XSS!r})"
    )
    for path in ("/", f"/projects/{client.id}/", f"/issues/{issue}/"):
        page = client.request("GET", path).text
        assert "<script>window" not in page
        assert "<img" not in page
        assert html.escape(XSS) in page, path
        assert not re.search(r"""(href|src)=["']?javascript:""", page)


def test_an_issue_has_a_page_whatever_its_event_lacks(tracker: Tracker, client: Client) -> None:
    issues = store(tracker, client, *({"fingerprint": [str(at)], **data} for at, data in enumerate(SPARSE)))
    assert len(set(issues)) == len(SPARSE)
    pages = {issue: client.request("GET", f"/issues/{issue}/") for issue in issues}
    rows = tracker.query(f"SELECT issue_id, data FROM tracker_event WHERE project_id = {client.id}")
    assert {data: pages[issue].status for issue, data in rows if pages[issue].status != 200} == {}
    text = "".join(page.text for page in pages.values())
    assert "<tr><th></th><td>clicked</td></tr>" in text
    assert "<tr><th>click</th><td></td></tr>" in text
    assert "<tr><th>request</th><td>/checkout/</td></tr>" in text


def test_pages_that_are_not_there_are_404(client: Client) -> None:
    for path in ("/projects/999999/", "/issues/999999/", "/static/tracker/nothing.css", "/static/../manage.py"):
        assert client.request("GET", path).status in (400, 404), path
    assert '<a href="/">All projects</a>' in client.request("GET", "/issues/999999/").text


def test_the_chart_s_library_comes_with_its_licence(client: Client) -> None:
    scripts = re.findall(r'<script src="([^"]+)"', client.request("GET", "/").text)
    [library] = [script for script in scripts if "/vendor/" in script]
    assert client.request("GET", library).status == 200
    licence = client.request("GET", library.replace(".umd.min.js", ".LICENSE.md"))
    assert "The MIT License" in licence.text


def test_each_event_of_an_issue_has_a_page(tracker: Tracker, client: Client) -> None:
    first, second = store(
        tracker, client, {"message": "slow", "tags": {"at": "1"}}, {"message": "slow", "tags": {"at": "2"}}
    )
    assert first == second
    links = re.findall(rf'href="(/issues/{first}/events/[^"]+)"', client.request("GET", f"/issues/{first}/").text)
    assert len(links) == 2
    assert len({client.request("GET", link).text for link in links}) == 2


def test_a_browser_runs_nothing_that_an_event_holds(tracker: Tracker, client: Client, browser: Chromium) -> None:
    [issue] = store(tracker, client, hostile(XSS))
    for path in ("/", f"/projects/{client.id}/", f"/issues/{issue}/"):
        browser.open(f"http://{client.address}{path}")
        assert browser.evaluate("typeof window.hacked") == "undefined"
    assert browser.errors == []


def test_the_chart_shows_events_as_they_come(tracker: Tracker, client: Client, browser: Chromium) -> None:
    limited = tracker.client(rate=3)
    browser.open(f"http://{client.address}/projects/{limited.id}/")
    total = "document.querySelector('[data-total={}]').textContent"
    browser.wait("!document.querySelector('[data-live-mark]').hidden")
    assert browser.evaluate(total.format("accepted")) == "0"
    for _ in range(5):
        limited.envelope(event())
    browser.wait(f"{total.format('accepted')} === '3' && {total.format('limited')} === '2'")
    shown = "Chart.getChart(document.querySelector('canvas')).data.datasets.map(d => d.data.reduce((a, b) => a + b))"
    browser.wait(f"JSON.stringify({shown}) === '[3,2,0,0,0,0]'")
    assert browser.errors == []


def test_pages_work_without_scripts_and_frames_of_the_program_are_open(
    tracker: Tracker, client: Client, browser: Chromium
) -> None:
    frames = [
        {"function": "library", "filename": "lib.py", "lineno": 1, "in_app": False, "context_line": "call()"},
        {"function": "own", "filename": "shop.py", "lineno": 7, "in_app": True, "context_line": "return 1 / 0"},
    ]
    fault = {"exception": {"values": [{"type": "ZeroDivisionError", "stacktrace": {"frames": frames}}]}}
    [issue] = store(tracker, client, fault)
    browser("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(f"http://{client.address}/projects/{client.id}/")
    assert browser.evaluate("document.querySelector('[data-total=accepted]').textContent") == "1"
    browser.open(f"http://{client.address}/issues/{issue}/")
    opened = browser.evaluate(
        "[...document.querySelectorAll('details')].map(d => [d.querySelector('code').textContent, d.open])"
    )
    assert opened == [["own", True], ["library", False]]
    assert browser.evaluate("document.querySelector('.current').innerText.includes('return 1 / 0')")
    assert browser.errors == []


def test_the_innermost_frame_is_open_where_the_client_knows_none_of_the_program(
    tracker: Tracker, client: Client
) -> None:
    frames = [{"function": name, "filename": f"{name}.py"} for name in ("outer", "inner")]
    [issue] = store(tracker, client, {"exception": {"values": [{"type": "Odd", "stacktrace": {"frames": frames}}]}})
    text = client.request("GET", f"/issues/{issue}/").text
    assert re.findall(r'<details class="frame"( open)?>\s*<summary><code>(\w+)', text) == [
        (" open", "inner"),
        ("", "outer"),
    ]


def test_pages_fit_on_a_phone(tracker: Tracker, client: Client, browser: Chromium) -> None:
    fault = {
        "exception": {"values": [{"type": "ZeroDivisionError", "value": "x" * 300}]},
        "tags": {"long": "y" * 200},
        "request": {"url": "https://shop.example/" + "z" * 300},
    }
    [issue] = store(tracker, client, fault)
    browser("Emulation.setDeviceMetricsOverride", width=420, height=800, deviceScaleFactor=1, mobile=True)
    for path in ("/", f"/projects/{client.id}/", f"/issues/{issue}/", "/issues/999999/"):
        browser.open(f"http://{client.address}{path}")
        too_wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 420)"
        wide = browser.evaluate(too_wide + ".map(e => e.tagName + '.' + e.className)")
        assert browser.evaluate("document.documentElement.scrollWidth") == 420, (path, wide)
    browser.open(f"http://{client.address}/projects/{client.id}/")
    title = "document.querySelector('.issue').getBoundingClientRect().width"
    assert browser.evaluate(title) > 150
    dsn = "document.querySelector('.dsn')"
    assert browser.evaluate(f"{dsn}.scrollWidth <= {dsn}.clientWidth")
