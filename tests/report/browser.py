"""A real browser without a window, driven over WebDriver.

Reference: https://www.w3.org/TR/webdriver2/ and Chromium's own commands.
"""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest


class Browser:
    """One page of the browser.

    Args:
        address: Address of its WebDriver.
    """

    def __init__(self, address: str):
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]}
        wanted = {"goog:chromeOptions": options, "pageLoadStrategy": "normal"}
        wanted["goog:loggingPrefs"] = {"browser": "ALL", "performance": "ALL"}
        self._session = f"{address}/session"
        made = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._session += f"/{made['sessionId']}"

    def close(self) -> None:
        """Ends the browser."""
        self._post("", method="DELETE")

    def _post(self, command: str, body: dict[str, Any] | None = None, method="POST") -> Any:
        request = urllib.request.Request(
            self._session + command,
            json.dumps(body or {}).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def _chromium(self, command: str, **parameters) -> Any:
        return self._post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show(self, address: str, width: int, height: int, theme: str = "light") -> None:
        """Opens a page on a screen of this size; below 600 pixels it is a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._chromium("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._chromium("Emulation.setEmulatedMedia", features=features)
        self._post("/url", {"url": address})

    def run(self, script: str) -> Any:
        """Runs the body of a JavaScript function and returns its result."""
        return self._post("/execute/sync", {"script": script, "args": []})

    def picture(self, whole: bool = False) -> bytes:
        """Returns a PNG of the screen, or of the whole page."""
        shot = self._chromium("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def console(self) -> list[str]:
        """Returns the messages and errors of the page since the last call."""
        return [entry["message"] for entry in self._post("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Returns the addresses that the page has requested since the last call."""
        entries = self._post("/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@contextlib.contextmanager
def opened() -> Iterator[Browser]:
    """Yields a browser; skips the test if none is installed."""
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("needs a browser: on Debian, apt-get install chromium chromium-driver")
    command = [driver, "--port=0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = next(line for line in process.stdout if "on port" in line and "started" in line)
        yield Browser(f"http://localhost:{re.findall(r'port ([0-9]+)', line)[-1]}")
    finally:
        process.terminate()  # it ends its browser too
        process.wait()
