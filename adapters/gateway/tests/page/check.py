"""The page at `/` as a browser shows it and a keyboard uses it. Arguments: the program haggle, the browser, and a folder for pictures
of it (none: no pictures). Needs nothing but Python's own library: the browser is spoken to over two pipes."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64decode

HAGGLE, BROWSER = sys.argv[1:3]
PICTURES = sys.argv[3] if len(sys.argv) > 3 else None
ADDRESS, URL = r"/ip4/127\S*/p2p/\w+", r"(http://\S*)/v1"
KEY = "secret-of-the-page"
PATIENCE = 60
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def until(found, what):
    """What is waited for, which another process brings about."""
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError(f"it did not come: {what}")


class Node:
    """A node in a home of its own, and what it said first."""

    all = []

    def __init__(self, expected, *args, **variables):
        self.home = tempfile.TemporaryDirectory()
        log = os.path.join(self.home.name, "log")
        environment = {"PATH": os.environ["PATH"], "HOME": self.home.name, "HAGGLE_ENABLE_MDNS": "false", **variables}
        with open(log, "wb") as to:
            self.process = subprocess.Popen([HAGGLE, *args], stdout=to, stderr=to, env=environment, cwd=self.home.name)
        Node.all.append(self)

        def said():
            with open(log, encoding="utf-8") as text:
                return re.search(expected, text.read())

        self.said = until(said, args).group()
        self.peer = self.said.rsplit("/", 1)[-1]


def provider(price, *more):
    local = ("--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "false")
    return Node(ADDRESS, "serve", *local, "--price-in", "0.1", "--price-out", price, *more)


def gateway(providers, *more, **variables):
    known = [arg for one in providers for arg in ("--provider", one.said)]
    node = Node(URL, "gateway", "--listen", "127.0.0.1:0", "--dht", "false", *known, *more, **variables)
    return node.said.removesuffix("/v1") + "/"


class Browser:
    """A headless one, which reads commands from its file 3 and answers on its file 4, each ended by a zero."""

    def __init__(self):
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (its_in, commands), (answers, its_out) = os.pipe(), os.pipe()
        # Whatever numbers the system gave them, they are 3 and 4 there.
        start = f'exec "$@" 3<&{its_in} 4>&{its_out}'
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", f"--user-data-dir={self.home.name}"]
        self.process = subprocess.Popen(["bash", "-c", start, "browser", BROWSER, *flags, "about:blank"],
                                        pass_fds=(its_in, its_out), stderr=subprocess.DEVNULL, env={**os.environ, "HOME": self.home.name})
        os.close(its_in), os.close(its_out)
        self.commands, self.answers, self.count, self.session, self.events = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb"), 0, None, []
        [page] = [one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self.session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.ask(domain + ".enable")

    def ask(self, method, **params):
        self.count += 1
        command = {"id": self.count, "method": method, "params": params, **({"sessionId": self.session} if self.session else {})}
        self.commands.write(json.dumps(command).encode() + b"\0")
        while True:
            text = bytearray()
            while (byte := self.answers.read(1)) != b"\0":
                assert byte, "the browser is gone"
                text += byte
            answer = json.loads(text)
            if answer.get("id") == self.count:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        """What an expression comes to, in the page."""
        said = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def open(self, url):
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, script):
        return until(lambda: self.run(script), script)

    def text(self, id):
        return self.run(f"document.getElementById({json.dumps(id)}).innerText")

    def press(self, key, code=0, modifiers=0):
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=modifiers)
            # What makes a key act.
            if kind == "rawKeyDown" and key in ("Enter", " "):
                text = "\r" if key == "Enter" else " "
                self.ask("Input.dispatchKeyEvent", type="char", key=key, text=text, modifiers=modifiers)

    def tab_to(self, id):
        for _ in range(40):
            if self.run("document.activeElement.id") == id:
                return
            self.press("Tab", 9)
        raise AssertionError(f"{id} is not reached by the keyboard")

    def write(self, id, text):
        self.tab_to(id)
        self.press("a", 65, modifiers=2)
        self.run("document.activeElement.select?.()")
        self.ask("Input.insertText", text=text)

    def look(self, scheme, width=1280, height=900):
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def picture(self, name):
        if PICTURES:
            data = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            with open(os.path.join(PICTURES, name + ".png"), "wb") as to:
                to.write(b64decode(data))

    def complaints(self):
        """What the browser found wrong, and what was asked of anybody else."""
        # That a key is missing or wrong is what one check is about, and no fault of the page.
        log = [one["params"]["entry"]["text"] for one in self.events if one.get("method") == "Log.entryAdded"]
        thrown = [one["params"]["exceptionDetails"] for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        asked = [one["params"]["request"]["url"] for one in self.events if one.get("method") == "Network.requestWillBeSent"]
        own = self.run("location.origin")
        foreign = [url for url in asked if not url.startswith((own, "data:"))]
        with_key = [url for url in asked if KEY in url]
        return [text for text in log if "status of 401" not in text] + thrown + foreign + with_key


def bought(browser):
    """Waits for the bill of what was just bought, as the list of jobs has it too."""
    browser.until("['Complete', 'Ended at the most tokens that were allowed'].includes(document.getElementById('said').innerText)")
    browser.until("document.getElementById('bill').innerText.includes('units')")
    return browser.text("bill")


@check
def a_prompt_is_tried_with_the_keyboard_alone_and_the_key_stays_in_memory(browser):
    sellers = [provider("0.5"), provider("0.9", "--slots", "3")]
    url = gateway(sellers, "--budget-per-day", "0.02", "--state", "state", "--key-env", "PAGE=0.01", PAGE=KEY)
    browser.look("light")
    browser.open(url)
    browser.until("document.getElementById('ask-key').open && document.activeElement.id === 'key'")
    browser.picture("key")
    browser.ask("Input.insertText", text="not-the-key")
    browser.press("Enter", 13)
    browser.until("document.getElementById('key-error').innerText.includes('not known')")
    browser.ask("Input.insertText", text=KEY)
    browser.press("Enter", 13)
    browser.until("document.getElementById('market').tBodies[0].rows.length === 2 && !document.getElementById('ask-key').open")
    market = browser.text("market")
    assert all(one.peer[-8:] in market for one in sellers) and "0.5" in market and "0.9" in market, market
    assert "0.01 of 0.01 units" in browser.text("budgets") and "Key PAGE" in browser.text("budgets"), browser.text("budgets")

    browser.write("tokens", "60")
    browser.write("prompt", "Once upon a time")
    browser.press("Enter", 13, modifiers=2)
    bill = bought(browser)
    assert len(browser.text("answer")) > 60 and sellers[0].peer in bill and "\n60\n" in bill, (browser.text("answer"), bill)
    browser.until("document.getElementById('jobs').innerText.includes('finished')")
    left = browser.run("document.querySelector('#budgets meter').value")
    assert 0 < left < 0.02, left
    browser.until("document.getElementById('market').innerText.includes('tokens/s')")

    # The route of the job, by keyboard; Escape gives the focus back.
    browser.run("document.querySelector('#jobs button').focus()")
    browser.press("Enter", 13)
    browser.until("document.getElementById('route').open")
    assert "awarded " + sellers[0].peer in browser.text("steps") and "owed" in browser.text("steps"), browser.text("steps")
    browser.press("Escape", 27)
    browser.until("!document.getElementById('route').open && document.activeElement.innerText === 'Show'")

    kept = browser.run("JSON.stringify([Object.keys(localStorage), Object.keys(sessionStorage), document.cookie, location.href])")
    assert KEY not in kept and json.loads(kept)[:3] == [[], [], ""], kept
    assert KEY not in browser.run("document.documentElement.outerHTML") and browser.run("document.getElementById('key').value") == ""
    for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("narrow", "dark", 390)):
        browser.look(scheme, width)
        # Nothing is wider than the window: tables scroll by themselves.
        assert browser.run("document.documentElement.scrollWidth") <= width, name
        browser.picture(name)
    browser.look("light")
    assert browser.complaints() == [], browser.complaints()
    # Loaded anew, it knows no key.
    browser.open(url)
    browser.until("document.getElementById('ask-key').open")


@check
def what_is_stopped_is_owed_only_as_far_as_it_came(browser):
    url = gateway([provider("0.5", "--tokens-per-second", "20")], "--budget", "1")
    browser.open(url)
    browser.until("document.getElementById('model').value")
    assert not browser.run("document.getElementById('ask-key').open") and "No budget a day" in browser.text("budgets")
    browser.write("tokens", "400")
    browser.write("prompt", "Once upon a time")
    browser.tab_to("send")
    browser.press("Enter", 13)
    browser.until("document.getElementById('answer').innerText.length > 20")
    assert browser.run("document.getElementById('answer').ariaBusy") == "true"
    browser.tab_to("stop")
    browser.press(" ", 32)
    browser.until("document.getElementById('said').innerText.startsWith('Stopped')")
    browser.until("document.getElementById('bill').innerText.includes('units')")
    tokens = browser.run("[...document.querySelectorAll('#bill dt')].find(dt => dt.innerText === 'Tokens').nextSibling.innerText")
    assert 0 < int(tokens) < 400, tokens
    assert "cancelled" in browser.text("jobs"), browser.text("jobs")
    assert browser.complaints() == [], browser.complaints()


@check
def what_is_refused_is_told_where_it_was_asked(browser):
    url = gateway([provider("0.5")], "--budget", "1")
    browser.open(url)
    browser.until("document.getElementById('model').value")
    browser.write("budget", "0.000001")
    browser.write("prompt", "<img src=x onerror=alert(1)>")
    browser.press("Enter", 13, modifiers=2)
    browser.until("document.getElementById('said').className === 'error'")
    assert "budget" in browser.text("said"), browser.text("said")
    assert browser.run("document.images.length") == 0


@check
def a_screen_reader_finds_every_control_by_a_name(browser):
    url = gateway([provider("0.5")], "--budget", "1")
    browser.open(url)
    browser.until("document.getElementById('market').tBodies[0].rows.length === 1")
    controls, landmarks, live = [], [], 0
    for node in browser.ask("Accessibility.getFullAXTree")["nodes"]:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if node.get("ignored"):
            continue
        if role in ("button", "textbox", "combobox", "spinbutton", "link", "table", "dialog", "meter"):
            assert name, node
            controls.append((role, name))
        if role in ("main", "banner", "region"):
            landmarks.append((role, name))
        live += role == "status"
    for wanted in (("combobox", "Model"), ("textbox", "Prompt"), ("button", "Buy an answer"), ("button", "Stop"), ("spinbutton", "Tokens at most")):
        assert wanted in controls, (wanted, controls)
    names = {name for _, name in landmarks}
    assert {"Try a prompt", "What is left today", "Who sells what", "My jobs"} <= names and live == 2, (landmarks, live)
    assert contrast(browser) == []


def contrast(browser):
    """Texts that are too faint for the rule of 4.5 to 1, light and dark."""
    faint = []
    for scheme in ("light", "dark"):
        browser.look(scheme)
        faint += browser.run(CONTRAST)
    browser.look("light")
    return faint


CONTRAST = """(() => {
  const parse = text => (text.match(/[0-9.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
  const ground = at => { for (; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c[3] !== 0) return c; } };
  return [...document.querySelectorAll("h1, h2, label, th, td, button, p, dt, dd, code, span")]
    .filter(at => at.innerText?.trim() && !at.matches("[aria-disabled=true]") && at.checkVisibility())
    .map(at => { const [a, b] = [light(parse(getComputedStyle(at).color)), light(ground(at))];
      return [at.innerText.slice(0, 30), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })
    .filter(([, ratio]) => ratio < 4.5);
})()"""


browser = Browser()
failed = 0
try:
    for one in CHECKS:
        began = time.monotonic()
        try:
            one(browser)
            print(f"ok      {one.__name__} ({time.monotonic() - began:.1f} s)")
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {one.__name__}: {str(error)[:2000]}")
finally:
    for process in [browser.process, *(node.process for node in Node.all)]:
        process.terminate()
    for process in [browser.process, *(node.process for node in Node.all)]:
        process.wait(60)
print(f"{len(CHECKS) - failed} passed, {failed} failed")
sys.exit(failed > 0)
