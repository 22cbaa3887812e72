"""A headless Chromium that tests drive as a person would, over its DevTools pipe: no WebSocket library, no port."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import time

import numpy as np
from PIL import Image

# Software WebGL takes seconds to start, and what is only laid out or read does not need it.
_NO_WEBGL = (
    "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
    " function (kind, ...more) { return kind.startsWith('webgl') ? null : get.call(this, kind, ...more); };"
)
_KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, ""), "ArrowLeft": (37, ""), "ArrowUp": (38, ""),
         "ArrowRight": (39, ""), "ArrowDown": (40, ""), "Home": (36, "")}  # fmt: skip


def find():
    """Where Chromium is, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page at a time, drawing WebGL in software. `complaints` are the console's, `requests` what was asked of whom."""

    def __init__(self, program, folder):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4; each message ends with a zero byte.
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank",
        )  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", program, *options],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._pending, self._number, self._session = b"", 0, None
        self.complaints, self.requests, self._no_webgl = [], [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends it."""
        with contextlib.suppress(OSError, EOFError):
            self._session = None
            self.call("Browser.close")
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)

    def call(self, method, **parameters):
        """A command of the DevTools protocol and its answer; what happens meanwhile is written down."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _receive(self, seconds=120):
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._in], [], [], seconds)
            assert ready, "Chromium says nothing"
            got = os.read(self._in, 1 << 20)
            if not got:
                raise EOFError("Chromium ended")
            self._pending += got
        text, self._pending = self._pending.split(b"\0", 1)
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, facts):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(facts["exceptionDetails"].get("exception", {}).get("description", str(facts)))
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in facts["args"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            if "OpenGL, Performance" not in facts["entry"]["text"]:  # drawing in software is slow, as it says
                self.complaints.append(facts["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"][:200])

    def open(self, url, *, size=(1280, 900), theme="dark", webgl=True):
        """Opens a page and waits until its first view is drawn, or says why not."""
        if webgl == bool(self._no_webgl):
            if webgl:
                self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=self._no_webgl)
                self._no_webgl = None
            else:
                added = self.call("Page.addScriptToEvaluateOnNewDocument", source=_NO_WEBGL)
                self._no_webgl = added["identifier"]
        self.complaints.clear()
        self.requests.clear()
        self.resize(*size)
        self.theme(theme)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")
        self.until("!document.querySelector('.view') || document.querySelector('.view').dataset.state")

    def resize(self, width, height):
        """The window's size in pixels of one device pixel each."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def theme(self, name):
        """What the person's system prefers: "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def run(self, expression):
        """The value of a JavaScript expression, which may be a promise."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def until(self, condition, seconds=90):
        """Waits for a JavaScript condition."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}; {self.complaints}"
            time.sleep(0.05)

    def box(self, selector, index=0):
        """Where an element is in the window: x, y, width, height; it is scrolled to first."""
        return self.run(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{index}];"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            "return [r.x, r.y, r.width, r.height]; })()"
        )

    def mouse(self, kind, x, y, **more):
        """A mouse event: "mousePressed", "mouseMoved", "mouseReleased" or "mouseWheel"."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, x, y, to_x, to_y):
        """Presses, moves in a few steps and lets go."""
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        for i in range(1, 6):
            self.mouse("mouseMoved", x + (to_x - x) * i / 5, y + (to_y - y) * i / 5, button="left", buttons=1)
        self.mouse("mouseReleased", to_x, to_y, button="left", clickCount=1)

    def click(self, selector, index=0):
        """Clicks the middle of an element."""
        x, y, width, height = self.box(selector, index)
        self.drag(x + width / 2, y + height / 2, x + width / 2, y + height / 2)

    def press(self, key):
        """Presses a key and lets it go."""
        code, text = _KEYS.get(key) or (ord(key.upper()), key)
        facts = {"key": key, "windowsVirtualKeyCode": code, "code": key if len(key) > 1 else f"Key{key.upper()}"}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def picture(self, *, clip=None, whole=False):
        """The window's pixels [H, W, 3] as integers; `clip` is a box as `box` gives it; `whole` is the whole page."""
        options = {}
        if clip is not None:
            x, y, width, height = clip
            options["clip"] = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
            scroll = self.run("[scrollX, scrollY]")
            options["clip"]["x"] += scroll[0]
            options["clip"]["y"] += scroll[1]
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **options)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
