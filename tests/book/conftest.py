"""The rendered book in a real browser: a server on loopback, Chromium driven through DevTools."""

import contextlib
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
QUIET = [
    *("--headless=new", "--no-sandbox", "--no-first-run"),
    *(f"--disable-{part}" for part in ("gpu", "quic", "dev-shm-usage", "extensions", "sync")),
    *(f"--disable-{part}" for part in ("background-networking", "component-update")),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-allow-origins=*",
    "--remote-debugging-port=0",
]
INLINE = ("data:", "blob:", "about:")  # addresses that load nothing
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # tools is on the path of all tests


def missing(what: str) -> None:
    """Skip with one line that names what is missing; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; in CI this must be there", pytrace=False)
    pytest.skip(what)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without logging."""

    def log_message(self, *arguments) -> None:
        """Do not log."""


class Browser:
    """One tab: visit an address, evaluate JavaScript, remember what went over the wire."""

    def __init__(self, address: str):
        import websocket

        targets = json.load(urllib.request.urlopen(f"http://{address}/json", timeout=10))
        page = next(target for target in targets if target["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=240)
        self.counter = itertools.count(1)
        self.events: list[dict] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=False)

    def call(self, method: str, **parameters) -> dict:
        """Send one command and return its result; events that come meanwhile are kept."""
        number = next(self.counter)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message.get('error')}"
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression; a promise is waited for.

        ``$`` and ``$$`` are DevTools' own: the first element of a selector, and the list of all.
        """
        options = {"awaitPromise": True, "returnByValue": True, "includeCommandLineAPI": True}
        answer = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def visit(self, address: str, *, width: int = 1400, dark: bool = False) -> None:
        """Open a page at a width and in a colour scheme, and wait until it is complete."""
        self.events.clear()
        self.server = address[: address.index("/", len("http://")) + 1]
        self.look(width, dark)
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href.split('#')[0] === {json.dumps(address.split('#')[0])}")
        self.wait_for("document.readyState === 'complete'")
        self.evaluate("window.MathJax ? MathJax.startup.promise.then(() => 1) : 1")

    def look(self, width: int, dark: bool) -> None:
        """Set the width and the colour scheme, of an open page too."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def wait_for(self, condition: str, seconds: float = 20) -> None:
        """Wait until a JavaScript condition holds."""
        ends_at = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > ends_at:
                pytest.fail(f"not within {seconds} s: {condition}", pytrace=False)
            time.sleep(0.01)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key of the keyboard."""
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", **event, **({"text": text} if text else {}))

    def place(self, element: str) -> tuple[float, float]:
        """Scroll a JavaScript expression's element into view and return its middle."""
        self.evaluate(f"{element}.scrollIntoView({{ block: 'center' }})")
        return tuple(
            self.evaluate(
                f"(() => {{ const b = {element}.getBoundingClientRect();"
                " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
            )
        )

    def drag(self, element: str, right: float, up: float) -> None:
        """Press the pointer on an element, move it by so many pixels in 20 steps, and let go."""
        x, y = self.place(element)
        moves = [("mouseMoved", k / 20) for k in range(1, 21)]
        for kind, share in [("mousePressed", 0), *moves, ("mouseReleased", 1)]:
            place = {"x": x + share * right, "y": y - share * up}
            pressed = {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **place, **pressed)

    def from_elsewhere(self) -> list[str]:
        """Return the addresses that the page has asked for beyond the server on loopback."""
        sent = (e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent")
        addresses = (event["request"]["url"] for event in sent)
        return [url for url in addresses if not url.startswith((self.server, *INLINE))]

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console, exceptions and failed requests."""
        found = []
        for event in self.events:
            kind, detail = event["method"], event.get("params", {})
            if kind == "Runtime.consoleAPICalled" and detail["type"] in {"error", "warning"}:
                found.append(" ".join(str(part.get("value")) for part in detail["args"]))
            elif kind == "Runtime.exceptionThrown":
                found.append(str(detail["exceptionDetails"].get("exception", detail)))
            elif kind == "Log.entryAdded" and detail["entry"]["level"] in {"error", "warning"}:
                found.append(f"{detail['entry']['text']} {detail['entry'].get('url', '')}")
            elif kind == "Network.loadingFailed" and not detail.get("canceled"):
                found.append(f"not loaded: {detail['errorText']}")
            elif kind == "Network.responseReceived" and detail["response"]["status"] >= 400:
                found.append(f"{detail['response']['status']} {detail['response']['url']}")
        return found


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built pages."""
    if not (HTML / "index.html").exists():
        missing("no built pages in _build/html: run `make book`")
    return HTML


@contextlib.contextmanager
def served(folder: Path):
    """Serve a folder on loopback and yield its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def site(html):
    """The address under which the built pages are served."""
    with served(html) as address:
        yield address


@pytest.fixture
def page(browser, site):
    """The page of all live explorers, open at the market whose leader changes."""
    browser.visit(f"{site}book/see_it_move.html")
    for explorer in ("forecaster", "costs"):
        browser.wait_for(f"$('[data-explorer={explorer}]').crossattn")
    return browser


@pytest.fixture
def serve():
    """Give the server: ``with serve(folder) as address``."""
    return served


# axe-core takes ten times as long where it looks at each letter of formulas and code: a page keeps
# its first formulas and, of code, one span of each colour; the reference keeps its first entries
THINNED = """
(() => {
  [...document.querySelectorAll('mjx-container')].slice(3).forEach(e => e.replaceChildren());
  [...document.querySelectorAll('section > dl.py')].slice(15).forEach(e => e.remove());
  const seen = new Set();
  for (const pre of document.querySelectorAll('.highlight pre')) {
    const copy = pre.cloneNode(true);
    for (const span of copy.querySelectorAll('span')) {
      if (seen.has(span.className)) span.replaceWith(span.textContent);
      seen.add(span.className);
    }
    copy.normalize();
    pre.replaceWith(copy);
  }
})()
"""


# the contrast of a text follows from its colour, its size and the grounds below it: where these are
# the same, three texts stand for all (each is looked at through every layer, which takes long);
# rules whose checks are all of less than serious impact take a quarter of the time and tell nothing
ACCESSIBILITY = """
(() => {
  const grounds = new Map(), seen = new Map();
  for (const e of document.querySelectorAll('body, body *')) {
    const style = getComputedStyle(e), { backgroundColor, backgroundImage, opacity } = style;
    const own = [backgroundColor, backgroundImage, opacity].join();
    const below = grounds.get(e.parentElement) ?? '';
    grounds.set(e, own === 'rgba(0, 0, 0, 0),none,1' ? below : `${below}|${own}`);
    const key = [style.color, style.fontSize, style.fontWeight, grounds.get(e)].join();
    const told = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
      && e.checkVisibility({ visibilityProperty: true });
    if (told) seen.set(key, (seen.get(key) ?? 0) + 1);
    e.toggleAttribute('data-contrast', told && seen.get(key) <= 3);
  }
  axe.configure({ rules: [{ id: 'color-contrast', selector: '[data-contrast]' }] });
  const grave = impact => ['serious', 'critical'].includes(impact);
  const { rules: all, data } = axe._audit, rules = {};
  for (const { id, impact, any, all: every, none } of all) {
    const impacts = [...any, ...every, ...none].map(check => data.checks[check.id ?? check].impact);
    if (![impact, ...impacts].some(grave)) rules[id] = { enabled: false };
  }
  return axe.run({ resultTypes: ['violations'], rules }).then(result => result.violations
    .filter(v => grave(v.impact))
    .map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => n.html).join(' | ')}`));
})()
"""


@pytest.fixture(scope="session")
def accessibility():
    """What axe-core finds serious or critical on the open page, a line a rule."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")

    def found(browser: Browser) -> list[str]:
        browser.evaluate(THINNED)
        browser.evaluate("typeof axe") == "object" or browser.evaluate(axe)
        return browser.evaluate(ACCESSIBILITY)

    return found


@pytest.fixture
def broken(tmp_path):
    """The address of a page that does everything a page of the book must not do."""
    code = "<span class=k>as dark as paper</span>"
    (tmp_path / "index.html").write_text(
        "<html><head><link rel=icon href='data:,'></head><body><img src='gone.png'>"
        "<script>console.error('mine'); setTimeout(() => { throw Error('thrown') })</script>"
        "<script src='https://example.org/elsewhere.js'></script>"
        f"<article><div class=highlight style='color: #eee'><pre>{code}{code}</pre></div>"
        "<p style='width: 3em; overflow: hidden; white-space: nowrap'>a line that is cut off</p>"
        "<div class=math style='width: 9em'><mjx-container display=true style='display: block'>"
        "<mjx-math style='display: block; width: 99em'>x = 1</mjx-math></mjx-container></div>"
        "</article></body></html>"
    )
    with served(tmp_path) as address:
        yield address


@pytest.fixture(scope="session")
def browser(html, tmp_path_factory):
    """A headless Chromium with a profile of its own that can reach nothing but loopback."""
    asked = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else BROWSERS
    command = next(filter(None, map(shutil.which, asked)), None)
    if command is None:
        missing("no Chromium on this machine: the rendered pages are not checked")
    profile = tmp_path_factory.mktemp("profile")
    process = subprocess.Popen(
        [command, *QUIET, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        marker = "DevTools listening on ws://"
        line = next((line for line in process.stderr if marker in line), None)
        if line is None:
            pytest.fail("Chromium did not start", pytrace=False)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        tab = Browser(line.split(marker)[1].split("/")[0])
        yield tab
        tab.socket.close()
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
