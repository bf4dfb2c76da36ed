"""A real browser for tests of pages: Debian's chromium without a window, spoken to over its debugging socket."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_WAIT_S = 60.0


class Page:
    """One page that is open."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0

    def ask(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol, and what it gives."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_WAIT_S))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is worth there."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until it is true there."""
        deadline = time.monotonic() + _WAIT_S
        while not (value := self.value(script)):
            assert time.monotonic() < deadline, f"not so within {_WAIT_S:g} s: {script}"
            time.sleep(0.1)
        return value

    def click(self, selector: str) -> None:
        """As a mouse does, where the thing is: what lies over it would be hit instead."""
        box = self.value(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.ask("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key, down and up."""
        for kind in ("keyDown", "keyUp"):
            said = {"text": text} if text and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **said)

    def screenshot(self) -> bytes:
        """As PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browse(address: str, folder: Path) -> Iterator[Page]:
    """Open a page; the browser keeps its things in ``folder``."""
    assert CHROMIUM is not None, "whoever calls has looked"
    process = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         f"--user-data-dir={folder}", "--remote-debugging-port=0", "--window-size=1280,1000", address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with connect(_target(folder, address), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.kill()
        process.wait()


def _target(folder: Path, address: str) -> str:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        time.sleep(0.2)
        told = folder / "DevToolsActivePort"
        if not told.is_file() or not (lines := told.read_text().split()):
            continue
        with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=_WAIT_S) as found:
            for target in json.load(found):
                if target["type"] == "page" and target["url"].startswith(address):
                    return str(target["webSocketDebuggerUrl"])
    raise AssertionError(f"the browser did not open {address} within {_WAIT_S:g} s")
