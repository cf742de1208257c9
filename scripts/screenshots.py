"""Makes the pictures of docs/images anew: the pages of `examples/ingest`, in Chromium, after some events.

sh scripts/with-server.sh .venv/bin/python .venv/bin/python scripts/screenshots.py
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.chromium import Chromium  # noqa: E402
from support.server import ValkeyServer, wait_until  # noqa: E402
from support.tracker import PROJECT, Client, Tracker  # noqa: E402

SECONDS = 60  # of load, for a chart with some shape


def send(tracker: Tracker, shop: Client) -> None:
    """Load that comes and goes, more than the project may send, and a fault of a real client."""
    for more in ([], ["--many", "2"]):
        subprocess.run([sys.executable, str(PROJECT / "shop.py"), shop.dsn, *more], capture_output=True, check=False)
    sys.path.insert(0, str(PROJECT))
    import load

    started, at = time.monotonic(), 0
    while time.monotonic() < started + SECONDS:
        at += 1
        for _ in range(4 + at * 7 % 13):
            body = load.envelope()
            shop.envelope(body, {"Content-Encoding": "gzip"})
        if at % 9 == 0:
            shop.envelope(b"it broke")
        time.sleep(0.5)


def main() -> None:
    """Write both pictures."""
    images = ROOT / "docs" / "images"
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as temporary, ValkeyServer() as server:
        folder = Path(temporary)
        tracker = Tracker(server, folder)
        try:
            shop = tracker.start().project("shop", rate=200)
            with tracker.consumer():
                send(tracker, shop)
                wait_until(lambda: tracker.entries() == [], what="all is stored")
            browser = Chromium(folder)
            try:
                browser.open(f"http://{tracker.address}/projects/{shop.id}/")
                browser.wait("!document.querySelector('[data-live-mark]').hidden")
                browser.screenshot(images / "tracker-project.png")
                [(issue,)] = tracker.query("SELECT id FROM tracker_issue WHERE title LIKE 'ZeroDivisionError%'")
                browser.prefer("dark")
                browser.open(f"http://{tracker.address}/issues/{issue}/")
                browser.screenshot(images / "tracker-issue.png")
            finally:
                browser.close()
        finally:
            tracker.close()


if __name__ == "__main__":
    main()
