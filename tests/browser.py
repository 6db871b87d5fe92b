"""A headless Chromium that tests drive through a pipe: what a page asks for, reports and shows."""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRAWN = """
[...document.querySelectorAll('.chart .plot')].every(plot => plot.querySelector('.main-svg'))
&& [...document.querySelectorAll('.parameters')].every(block => block.querySelector('.marginals .main-svg'))
"""


@contextmanager
def chromium(profile):
    """A browser with one empty tab.

    Args:
        profile: an empty folder.
    """
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.process.kill()
        browser.process.wait(10)


class Browser:
    """The tab of a headless Chromium, in the DevTools protocol."""

    def __init__(self, profile):
        to_browser, self.write_end, self.read_end, from_browser = (*os.pipe(), *os.pipe())
        # Chromium reads from descriptor 3 and writes to descriptor 4.
        connect = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            ["bash", "-c", connect, "bash", CHROMIUM, *options, f"--user-data-dir={profile}"],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.sent, self.events, self.waiting, self.session = 0, [], b"", None
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """The result of a command."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.waiting:
                self.waiting += os.read(self.read_end, 1 << 20)
            text, _, self.waiting = self.waiting.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def js(self, expression):
        """The value of an expression."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, condition, seconds=30):
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.js(condition):
            assert time.monotonic() < until, f"never true: {condition}"
            time.sleep(0.1)

    def open(self, path, *, width=1200, scheme="light"):
        """Show a file, and wait until its plots are drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=f"file://{path}")
        self.wait_for(f"location.protocol === 'file:' && document.readyState === 'complete' && {DRAWN}")

    @property
    def requests(self):
        """The addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self):
        """Errors and warnings of the console."""
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded"}
        called = [e for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        return [e["params"] for e in self.events if e["method"] in kinds] + [
            e["params"] for e in called if e["params"]["type"] in ("error", "warning", "assert")
        ]

    def screenshot(self, path):
        """Write the whole page as an image."""
        size = "({width: document.documentElement.clientWidth, height: document.documentElement.scrollHeight})"
        clip = {"x": 0, "y": 0, "scale": 1, **self.js(size)}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))
