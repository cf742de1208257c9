"""A headless Chromium for a test, driven by its DevTools protocol: what a person would see of a page."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from support.server import wait_until

MISSING = "There is no Chromium: the pages of examples/ingest were not looked at in a browser."
TIMEOUT = 60.0  # seconds


def program() -> str | None:
    """The path of Chromium; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """A browser with one page. `errors` is what the page has thrown or failed to load."""

    def __init__(self, folder: Path, width: int = 1200, height: int = 900) -> None:
        found = program()
        if found is None:
            assert not os.environ.get("VCACHE_REQUIRE_CHROMIUM"), "there is no Chromium, and VCACHE_REQUIRE_CHROMIUM"
            pytest.skip("there is no Chromium")
        self.errors: list[str] = []
        self._log = folder / "chromium.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(found, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder / 'chromium'}"),
                    # The sandbox refuses root. The pages are ours.
                    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--lang=en"),
                    *(f"--window-size={width},{height}", "--hide-scrollbars", "about:blank"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"TZ": "UTC", "HOME": str(folder)},
            )
        self._number = 0
        self._stack = contextlib.ExitStack()
        try:
            self._socket = self._stack.enter_context(connect(self._address(), max_size=None, open_timeout=TIMEOUT))
            [page] = [each for each in self("Target.getTargets")["targetInfos"] if each["type"] == "page"]
            attached = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session: str | None = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self(f"{domain}.enable")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    _session: str | None = None

    def _address(self) -> str:
        def told() -> str | None:
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            found = re.search(r"DevTools listening on (ws://\S+)", self._log.read_text(errors="replace"))
            return found[1] if found else None

        return str(wait_until(told, timeout=TIMEOUT, what="Chromium listens"))

    def __call__(self, method: str, **parameters: Any) -> Any:
        """Sends a command of the protocol; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(TIMEOUT))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(told["params"]["exceptionDetails"]))
        elif told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.errors.append(str(told["params"]["entry"]))

    def open(self, url: str) -> None:
        """Opens a page, and waits until it is complete."""
        self("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true in the page."""
        wait_until(lambda: self.evaluate(script), timeout=TIMEOUT, interval=0.05, what=script)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """A picture of the window."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._session = None
            self("Browser.close")
        self._stack.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
