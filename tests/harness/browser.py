"""A browser to look at a served page with: told what to do over a pipe, and asked what it sees."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Enter": 13, "Space": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
TEXTS = {"Enter": "\r", "Space": " "}


def find_browser() -> str | None:
    """The path of an installed browser."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page of headless Chromium, over the DevTools protocol: JSON messages that end in a null byte.

    Attributes:
        said: what was written on the console, and each policy, script or network error.
        asked: the address of each request.
    """

    def __init__(self, program: str, profile: Path, width: int = 1280, height: int = 900) -> None:
        theirs, self._out = os.pipe()
        self._in, ours = os.pipe()
        # The browser reads commands from file descriptor 3 and writes answers to 4.
        bash = f"exec {program} {FLAGS} --user-data-dir={profile} about:blank 3<&{theirs} 4>&{ours}"
        self._process = subprocess.Popen(["bash", "-c", bash], pass_fds=(theirs, ours), stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(ours)
        self._rest, self._number = b"", 0
        self.said: list[str] = []
        self.asked: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self._call("Target.attachToTarget", {"targetId": page, "flatten": True})
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, theme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._call("Emulation.setEmulatedMedia", {"features": features})

    def open(self, address: str) -> None:
        self._call("Page.navigate", {"url": address})
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page."""
        found = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> Any:
        """Wait for an expression to be true."""
        last = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < last, f"never came true: {expression}\n{self.said}"
            time.sleep(0.1)
        return found

    def press(self, name: str) -> None:
        """Press one of KEYS on what has the focus."""
        key = {"key": " " if name == "Space" else name, "code": name, "windowsVirtualKeyCode": KEYS[name]}
        text = {"text": TEXTS[name]} if name in TEXTS else {}
        self._call("Input.dispatchKeyEvent", {"type": "keyDown", **text, **key})
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    def save_to(self, folder: Path) -> None:
        """Let downloads go to a folder, without asking."""
        self._call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def picture(self, path: Path, whole: bool = False, of: str = "") -> None:
        """The window, the whole page, or the element that a selector finds."""
        more: dict[str, Any] = {"captureBeyondViewport": whole or bool(of)}
        if of:
            box = self.value(
                f"(r => ({{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height, scale: 1}}))"
                f"(document.querySelector({json.dumps(of)}).getBoundingClientRect())"
            )
            more["clip"] = box
        shot = self._call("Page.captureScreenshot", {"format": "png", **more})
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.asked.append(details["request"]["url"])
        elif event["method"] == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(details["args"]))
        elif event["method"] == "Runtime.exceptionThrown":
            self.said.append(json.dumps(details["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            self.said.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
