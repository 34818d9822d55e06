"""A page as a browser shows it: Chromium without a window, through its driver's HTTP interface (W3C WebDriver)."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = None if BROWSER and DRIVER else "needs chromium and chromedriver (apt install chromium-driver)"


class Page:
    def __init__(self, address: str, session: str) -> None:
        self._address = f"{address}/session/{session}"

    def __call__(self, path: str, **body: Any) -> Any:
        return _post(f"{self._address}/{path}", body)

    def open(self, path: Path) -> None:
        self("url", url=path.resolve().as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self("execute/sync", script=script, args=list(arguments))

    def size(self, width: int, height: int, **features: str) -> None:
        """Of the viewport; features are of the media: prefers_color_scheme="dark"."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)
        media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=media)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self("goog/cdp/execute", cmd=command, params=parameters)

    def console(self) -> list[str]:
        """All messages since the last call, violations of the page's policy among them."""
        return [entry["message"] for entry in self("se/log", type="browser")]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        found = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path: Path) -> None:
        found = self.devtools("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser. Its processes outlive the driver."""
        _ask(urllib.request.Request(self._address, method="DELETE"))


def _post(address: str, body: dict[str, Any]) -> Any:
    return _ask(urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"}))


def _ask(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["value"]


@contextlib.contextmanager
def browser(arguments: Sequence[str] = ()) -> Iterator[Page]:
    """A fresh browser without extensions, network or memory of another."""
    assert BROWSER and DRIVER
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with contextlib.closing(_session(f"http://127.0.0.1:{port}", profile, arguments)) as page:
                yield page
        finally:
            driver.terminate()
            driver.wait(10)


def _session(address: str, profile: str, arguments: Sequence[str]) -> Page:
    fixed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    wanted = {
        "goog:chromeOptions": {"binary": BROWSER, "args": [*fixed, *arguments]},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    for _ in range(100):
        with contextlib.suppress(OSError):
            found = _post(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
            return Page(address, found["sessionId"])
        time.sleep(0.1)
    raise RuntimeError(f"no answer from {DRIVER}")
