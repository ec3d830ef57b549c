"""A real browser for tests: Chromium over its DevTools pipe, without a network."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
    "--no-first-run", "--hide-scrollbars",
)  # fmt: skip


def find_browser() -> str | None:
    """The browser's program, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page. What went wrong in the page stands in `problems`."""

    def __init__(self, program: str, profile: Path) -> None:
        command_out, self._to = os.pipe()
        self._from, answers_in = os.pipe()
        wanted = f'exec "$@" 3<&{command_out} 4>&{answers_in}'
        self._process = subprocess.Popen(
            ["bash", "-c", wanted, "browser", program, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(command_out, answers_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_out)
        os.close(answers_in)
        self._rest = b""
        self._sent = 0
        self._session = ""
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._to)  # which it takes as the end
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a DevTools command."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._keep(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _keep(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        name, params = event["method"], event["params"]
        if name == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif name == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif name == "Network.loadingFailed":
            self.problems.append(params["errorText"])

    def open(self, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
        """Shows a file at a width, light or dark, and waits until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self._events.clear()
        self.problems.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._keep(self._next())

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key on the keyboard."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "char" else {}
            if kind != "char" or text:
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                          windowsVirtualKeyCode=code, **text)  # fmt: skip


def assert_readable(browser: Browser, page: Path) -> None:
    """Whole, without an error, nothing wider than the screen; dark where the system is."""
    for width, scheme in ((1280, "light"), (400, "light"), (400, "dark")):
        browser.open(page, width=width, scheme=scheme)
        assert browser.problems == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask(UNSEEN) == []
        assert (browser.ask(BRIGHTNESS) < 0.2) == (scheme == "dark")


UNSEEN = """Array.from(document.images)
  .filter(one => !one.complete || one.naturalWidth === 0).map(one => one.alt)"""
BRIGHTNESS = """Math.max(...getComputedStyle(document.body).backgroundColor
  .match(/\\d+/g).slice(0, 3).map(Number)) / 255"""
