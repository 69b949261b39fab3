"""Chromium without a screen, driven over the Chrome DevTools Protocol. It needs Debian's `chromium` and websockets."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..servers import DEADLINE_S, program, wait_until

_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
_MAX_MESSAGE = 256 * 2**20


class BrowserError(AssertionError):
    """The browser refused a command, or a script in the page failed."""


class Chromium:
    """Process of chromium, with a profile of its own that is deleted in the end."""

    def __init__(self) -> None:
        self._program = program("chromium")
        self._folder = Path(tempfile.mkdtemp(prefix="harstream-chromium-"))
        # Its sandbox does not work for root, and as a rule not in a container either. It only sees our own page.
        flags = [*_FLAGS, "--no-sandbox", f"--user-data-dir={self._folder}"]
        environment = {**os.environ, "HOME": str(self._folder)}
        self._process = subprocess.Popen(
            [self._program, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        port_file = self._folder / "DevToolsActivePort"
        wait_until(lambda: self._ready(port_file), "chromium to listen")
        port, path = port_file.read_text().split()
        self._connection: ClientConnection = connect(
            f"ws://127.0.0.1:{port}{path}", max_size=_MAX_MESSAGE, open_timeout=DEADLINE_S, compression=None, proxy=None
        )
        self._answered = threading.Condition()
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._number = 0
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, name="chromium", daemon=True)
        self._reader.start()

    def _ready(self, port_file: Path) -> bool:
        assert self._process.poll() is None, f"chromium ended with exit code {self._process.returncode}"
        return port_file.is_file() and len(port_file.read_text().split()) == 2

    def _read(self) -> None:
        with suppress(ConnectionClosed):
            self._read_all()

    def _read_all(self) -> None:
        for text in self._connection:
            message = json.loads(text)
            with self._answered:
                if "id" in message:
                    self._answers[message["id"]] = message
                    self._answered.notify_all()
                elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                    page.note(message["method"], message["params"])

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        with self._answered:
            self._number += 1
            number = self._number
        content = {"id": number, "method": method, "params": parameters}
        self._connection.send(json.dumps({**content, "sessionId": session} if session else content))
        with self._answered:
            assert self._answered.wait_for(lambda: number in self._answers, DEADLINE_S), f"no answer to {method}"
            answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def page(self, width: int = 1280, height: int = 900, *, dark: bool = False, phone: bool = False) -> Page:
        """Open an empty page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        with self._answered:
            self._pages[session] = page
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.resize(width, height, phone=phone)
        page.set_theme("dark" if dark else "light")
        return page

    def close(self) -> None:
        """End the browser and delete its profile."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """Page of the browser. It keeps what the page wrote to the console, and the addresses that it asked for."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.received = 0  # bytes

    def note(self, method: str, event: Mapping[str, Any]) -> None:
        """Note an event of the protocol."""
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Network.dataReceived":
            self.received += event["dataLength"]
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address, and wait until the document is there."""
        failure = self.call("Page.navigate", url=url).get("errorText")
        assert not failure, f"{url}: {failure}"
        self.wait(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'", url)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page; of a promise, what it promises."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(str(details.get("exception", {}).get("description", details["text"])))
        return answer["result"].get("value")

    def wait(self, script: str, what: str = "") -> None:
        """Wait until an expression is true in the page."""
        wait_until(lambda: self.evaluate(f"Boolean({script})"), what or script)

    def text(self, selector: str) -> str:
        """Return the text of an element that is there; "" if it is not."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a selector finds."""
        found = self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
        return [str(text) for text in found]

    def click(self, selector: str) -> None:
        """Click an element."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, key: str, code: str = "", number: int = 0, text: str = "") -> None:
        """Press and release a key."""
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type a text into the element with the focus."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the window, in CSS pixels."""
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def set_theme(self, theme: str) -> None:
        """Let the page know that its reader wants it ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write what is in view to a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)
