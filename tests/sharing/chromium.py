"""A headless Chromium that a test drives: DevTools messages over a pipe, as Chromium's documentation describes them."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time

__all__ = ["Browser", "found"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
).split()
TIMEOUT = 30.0  # s, for one answer


def found():
    """The program of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process of a browser. Close it."""

    def __init__(self, program, folder):
        # The browser reads commands from descriptor 3 and answers on 4.
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
                pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"HOME": str(folder)},
            )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer, self._last = b"", 0
        self.events = []

    def close(self):
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method, session=None, **parameters):
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT
        while True:
            answer = self._read(end)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self, end):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser did not answer")
            data = os.read(self._answers, 2**20)
            if not data:
                raise ConnectionError("the browser is gone")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)

    def open(self, url, width=1280, height=900, scheme="light", touch=False):
        """Open a page, and wait until it is loaded."""
        return Page(self, url, width, height, scheme, touch)


class Page:
    def __init__(self, browser, url, width, height, scheme, touch):
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        self._first = len(browser.events)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Page.navigate", url=url)
        end = time.monotonic() + TIMEOUT
        while self._state() != [url, "complete"]:
            if time.monotonic() > end:
                raise TimeoutError(f"{url} did not load")
            time.sleep(0.01)
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def _state(self):
        try:
            return self.evaluate("[document.URL, document.readyState]")
        except RuntimeError:  # between two documents
            return None

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def events(self, *methods):
        own = [event for event in self._browser.events[self._first :] if event.get("sessionId") == self._session]
        return [event for event in own if not methods or event["method"] in methods]

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def problems(self):
        """Errors and warnings of the console, exceptions, and what the policy of the page refused."""
        self.evaluate("1")
        found = self.events("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        # Chromium advises tests, which read the pixels of a canvas, to ask for a slower one.
        return [event for event in found if "will-read-frequently" not in str(event)]

    def requests(self):
        """The addresses that the page asked for."""
        return [event["params"]["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def middle(self, selector):
        """Scroll an element into view; the middle of it on the screen."""
        return self.evaluate(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = node.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )

    def mouse(self, kind, x, y, buttons=0):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=buttons, button="left", clickCount=1)

    def click(self, selector):
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def drag(self, selector, dx, dy):
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y, 1)
        for step in range(1, 5):
            self.mouse("mouseMoved", x + dx * step / 4, y + dy * step / 4, 1)
        self.mouse("mouseReleased", x + dx, y + dy)

    def key(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            virtual = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38}.get(key, 0)
            if key == "Enter" and kind == "keyDown":
                text = {"text": "\r"}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=code or key, windowsVirtualKeyCode=virtual, **text
            )

    def screenshot(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
