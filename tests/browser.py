"""A real Chromium without a window, spoken to by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_LIMIT = 60.0  # seconds for one answer
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
_TELLING = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """Chromium as a process of its own, with a profile in ``folder`` that nobody has used."""

    def __init__(self, folder: Path) -> None:
        commands, self._write = os.pipe()  # Chromium reads from 3 and writes to 4
        self._read, answers = os.pipe()
        words = [str(CHROMIUM), *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", *words],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._pending = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(timeout=_LIMIT)  # it clears its folder of temporary files
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """What Chromium answers."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for found in self._messages():
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                return dict(found["result"])
        raise AssertionError("unreachable")

    def wait_for(self, method: str, session: str) -> None:
        """Until that event has come, once more than it had."""
        for found in self._messages():
            if (found.get("method"), found.get("sessionId")) == (method, session):
                return

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Messages as they come; those that are events are kept too."""
        ends = time.monotonic() + _LIMIT
        while True:
            while b"\0" in self._pending:
                message, _, self._pending = self._pending.partition(b"\0")
                found = json.loads(message)
                if "method" in found:
                    self.events.append(found)
                yield found
            if not select.select([self._read], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise RuntimeError("Chromium does not answer")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError(f"Chromium ended, with status {self._process.wait()}")
            self._pending += data

    def open(self, url: str, **look: Any) -> Tab:
        return Tab(self, url, **look)


class Tab:
    """A page as it is seen: on a screen so wide, in the dark or not."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = 1200,
        height: int = 800,
        dark: bool = False,
        mobile: bool = False,
        scripts: bool = True,
    ) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired", self._session)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def events(self, *methods: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] in methods
        ]

    def told(self) -> list[dict[str, Any]]:
        """All that came to the console, exceptions and refusals too, and what Chromium found to
        be amiss with the page."""
        self.evaluate("0")  # whatever was on its way has come
        return self.events(*_TELLING, "Audits.issueAdded")

    def asked_for(self) -> list[str]:
        """The addresses of all that was fetched, or would have been."""
        requests = self.events("Network.requestWillBeSent")
        return [request["request"]["url"] for request in requests]

    def picture(self, width: int, height: int) -> bytes:
        """A PNG of so much of the page, from its beginning."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", clip=clip)["data"])

    def pdf(self) -> bytes:
        printed = self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        return base64.b64decode(printed["data"])
