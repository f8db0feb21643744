"""The page in a real browser: what people do on it, with a mouse and without."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from browser import axe, chromium
from conftest import COMMAND, Run, missing
from consoles import Running, add_user, serving
from metricshub_apikey import ApiKeys
from metricshub_apikey.keys.metadata import ATTRIBUTES
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.bag import Bag, encode_bag
from metricshub_apikey.pkcs12.store import Store
from proxies import certificate
from servers import ask, free_port, program, running
from stock import Stock

Page: TypeAlias = Any
Browser: TypeAlias = Any
Message: TypeAlias = Any
"""What Playwright gives, without types of ours."""

POLICY = """
[keys]
default_lifetime = "90d"
lifetimes = ["30d", "90d"]
require_role = true
[roles.reader]
description = "Looks"
allow = ["GET /**"]
[roles.admin]
allow = ["* /**"]
"""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """Return a browser."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def console(keystore: Path, environment: dict[str, str]) -> Iterator[Running]:
    """Return a console with a policy."""
    keystore.parent.mkdir(parents=True)
    (keystore.parent / "apikey.toml").write_text(POLICY)
    with serving(keystore, environment=environment) as running:
        yield running


@pytest.fixture
def page(browser: Browser, console: Running) -> Iterator[Page]:
    """Return the page, opened by the printed link."""
    with opened(browser, console.link) as page:
        yield page


class opened:  # noqa: N801 - a context manager
    """A page of its own, which fails the test for any error of a script or of the policy."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        """Open *url*."""
        self.context = browser.new_context(**{"reduced_motion": "reduce", **options})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        self.page.goto(url)

    def _heard(self, message: Message) -> None:
        """Statuses that the page tells the user about are no errors of it."""
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.errors.append(message.text)

    def __enter__(self) -> Page:
        """Return the page."""
        return self.page

    def __exit__(self, *_: object) -> None:
        """Close it; no script may have failed."""
        self.context.close()
        assert self.errors == []


def create(page: Page, name: str, role: str = "reader") -> str:
    """Make a key by mouse, and return it; its dialog is still open."""
    page.click("[data-k=create]")
    page.fill("#f-name", name)
    page.check(f"input[value={role}]")
    page.click("#create .main")
    page.wait_for_selector("#secret")
    return str(page.input_value("#secret"))


def finish(page: Page) -> None:
    """Close the dialog with the new key."""
    page.click("text=I have stored it")
    page.wait_for_selector("tr.new")


def test_the_whole_life_of_a_key(page: Page, keystore: Path, run: Run, stock: Stock) -> None:
    """Create, copy, use at a stock server, rotate, finish, revoke; the shell sees the person."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    secret = create(page, "CI")
    assert page.evaluate("document.activeElement.id") == "secret"
    page.click("#once >> text=Copy >> nth=0")
    page.wait_for_selector("text=Copied to the clipboard.")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert secret in page.inner_text("#snippet")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.is_visible("#secret")
    finish(page)
    assert page.evaluate("document.activeElement.dataset.k") == "row|ci"
    assert secret not in page.content()
    assert stock.ask("find", keystore, secret) == ["accepted ci"]
    assert run("verify", stdin=f"{secret}\n").returncode == 0
    page.click("[data-k='rotate|ci']")
    page.click("#rotate .main")
    page.wait_for_selector("#secret")
    second = page.input_value("#secret")
    finish(page)
    page.wait_for_selector("[data-k='flag|ci.prev']")
    assert run("verify", stdin=f"{secret}\n").returncode == 0
    page.click("[data-k='flag|ci.prev']")
    page.click("#finish .danger")
    page.wait_for_selector("[data-k='flag|ci.prev']", state="detached")
    assert run("verify", stdin=f"{secret}\n").returncode == 1
    assert run("verify", stdin=f"{second}\n").returncode == 0
    page.click("[data-k='trash|ci']")
    page.click("#revoke .danger")
    page.wait_for_selector("text=No API keys yet")
    assert run("verify", stdin=f"{second}\n").returncode == 1
    events = json.loads(run("log", "-o", "json").stdout)["events"]
    assert [event["action"] for event in events] == ["create", "rotate", "finish", "revoke"]
    assert len({event["actor"] for event in events}) == 1


@pytest.mark.slow
def test_what_the_shell_does_appears(page: Page, run: Run) -> None:
    """Within five seconds, and the focus stays where it is."""
    create(page, "first")
    finish(page)
    page.focus("[data-k='filter|q']")
    run("create", "second", "--role", "reader")
    page.wait_for_selector("[data-k='row|second']", timeout=5_000)
    assert page.evaluate("document.activeElement.dataset.k") == "filter|q"


def test_the_keyboard_alone_does_everything(page: Page, keystore: Path) -> None:
    """Tab, Space, Enter and Escape: make a key, close a dialog, revoke it."""

    def reach(mark: str) -> None:
        for _ in range(60):
            here = "(e => e.dataset.k || e.id || e.value || e.textContent)(document.activeElement)"
            if page.evaluate(here) == mark:
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{mark} is not reached")

    page.wait_for_selector("[data-k=create]")
    reach("create")
    page.keyboard.press("Enter")
    page.keyboard.type("by-keyboard")
    reach("reader")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector("#secret")
    reach("I have stored it")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr.new")
    reach("trash|by-keyboard")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.k") == "trash|by-keyboard"
    page.keyboard.press("Enter")
    reach("Revoke")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=No API keys yet")
    assert ApiKeys(keystore).list() == ()


@pytest.mark.slow
def test_an_error_stands_beside_its_field(page: Page) -> None:
    """The focus goes there, and nothing that was typed is lost."""
    create(page, "ci")
    finish(page)
    page.click("[data-k=create]")
    page.fill("#f-name", "ci")
    page.click("#create .main")
    page.wait_for_selector("#f-roles-error:not(:empty)")
    page.check("input[value=reader]")
    page.click("#create .main")
    page.wait_for_selector("#f-name[aria-invalid=true]")
    assert "already exists" in page.inner_text("#f-name-error")
    assert page.evaluate("document.activeElement.id") == "f-name"
    assert page.is_checked("input[value=reader]")


@pytest.mark.slow
def test_a_keystore_in_trouble_says_so(page: Page, keystore: Path) -> None:
    """What was typed stays, what was shown too; it comes back by itself."""
    create(page, "ci")
    finish(page)
    good = keystore.read_bytes()
    page.click("[data-k=create]")
    page.fill("#f-name", "typed")
    page.check("input[value=reader]")
    keystore.write_bytes(b"damage")
    page.click("#create .main")
    page.wait_for_selector("#create .note.bad")
    assert str(keystore) in page.inner_text("#create .note.bad")
    assert page.input_value("#f-name") == "typed"
    page.wait_for_selector("main .note.bad", timeout=6_000)
    assert page.is_visible("[data-k='row|ci']")
    keystore.write_bytes(good)
    page.wait_for_selector("main .note.bad", state="detached", timeout=6_000)
    page.click("#create .main")
    page.wait_for_selector("#secret")


@pytest.mark.slow
def test_a_session_that_ends_loses_nothing(page: Page) -> None:
    """The sign-in lies over the open dialog."""
    page.click("[data-k=create]")
    page.fill("#f-name", "typed")
    page.check("input[value=reader]")
    page.evaluate(
        "fetch('/v1/sessions/current', {method: 'DELETE', headers: {Authorization: "
        "'Bearer ' + JSON.parse(sessionStorage.getItem('apikey-session')).token}})"
    )
    page.click("#create .main")
    page.wait_for_selector("#again-link")
    assert page.input_value("#f-name") == "typed"


@pytest.mark.slow
def test_a_link_works_once_and_leaves_no_trace(
    page: Page, browser: Browser, console: Running
) -> None:
    """Not in the address, not in the history; a reload keeps the session, another tab has none."""
    page.wait_for_selector("[data-k=create]")
    assert "#" not in page.url
    page.reload()
    page.wait_for_selector("[data-k=create]")
    with opened(browser, console.link) as other:
        other.wait_for_selector("text=has been used")
    with opened(browser, console.origin) as third:
        third.wait_for_selector("text=Press Enter in the terminal")


def odd_key(keystore: Path, odd: str) -> None:
    """Plant a key whose every text is what an attacker would write."""

    def plant(store: Store) -> None:
        entry = "api_key:" + odd.lower()
        secret = store.encrypt(entry, b"planted-secret", os.urandom)
        texts = {1: (odd,), 2: (odd,), 3: (odd,), 4: (odd,), 5: (f"x={odd}",)}
        store.adopt(Bag(encode_bag(entry, 0, *secret, ATTRIBUTES.encode(texts))))

    Keystore(keystore).update(plant, create=True)


@pytest.mark.slow
def test_no_text_becomes_a_script(browser: Browser, console: Running, keystore: Path) -> None:
    """Alias, description, labels, roles, account, maker and actor, in every view and dialog."""
    odds = [
        "<img src=x onerror=alert(1)>",
        "\"'><svg/onload=alert(2)>",
        "</script><script>alert(3)</script>",
        "javascript:alert(4)//{{7*7}}${alert(5)}",
    ]
    for odd in odds:
        odd_key(keystore, odd)
    with opened(browser, console.link) as page:
        page.wait_for_selector("tbody tr")
        assert page.locator("tbody tr").count() == 4
        for odd in odds:
            page.click(f"[data-k={json.dumps('row|' + odd.lower())}] .name a")
            page.wait_for_selector("text=History")
            assert page.inner_text("h1") == odd.lower()
            page.click("[data-k^='edit|']")
            page.wait_for_selector("#edit")
            page.keyboard.press("Escape")
            page.click("[data-k^='trash|']")
            page.wait_for_selector("#revoke")
            page.keyboard.press("Escape")
            page.click("[data-k='nav|keys']")
        for view in ("log", "findings", "policy"):
            page.click(f"[data-k='nav|{view}']")
            page.wait_for_selector(f"h1:has-text('{view.title()}')")
        assert page.locator("main img, main script").count() == 0


class Hostile(http.server.BaseHTTPRequestHandler):
    """Another program's page on another port of this host."""

    target = ""

    def do_GET(self) -> None:
        """Answer with a page that tries what a page can."""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        body = f"""<body><iframe id=f src="{self.target}/"></iframe><script>
        const seen = [];
        const note = (name) => (value) => seen.push(name + ':' + value);
        const paths = ['/v1/keys', '/healthz', '/', '/console.js', '/v1/openapi.json'];
        const calls = paths.flatMap((path) => [
          fetch('{self.target}' + path).then((a) => a.text()).then(note(path)).catch(() => 0),
          fetch('{self.target}' + path, {{credentials: 'include', headers: {{'X-A': '1'}}}})
            .then(note(path)).catch(() => 0)]);
        const evil = {{method: 'POST', body: '{{"alias":"evil"}}', mode: 'no-cors'}};
        calls.push(fetch('{self.target}/v1/keys', evil)
          .then((a) => a.type !== 'opaque' && note('post')(1)).catch(() => 0));
        const child = window.open('{self.target}/');
        Promise.all(calls).then(() => setTimeout(() => {{
          try {{ if (child.document.body) seen.push('child'); }} catch {{}}
          const frame = document.getElementById('f').contentWindow;
          try {{ if (frame.document.body.textContent) seen.push('frame'); }} catch {{}}
          document.title = 'seen ' + JSON.stringify(seen);
        }}, 500));</script>"""
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_another_page_on_this_host_sees_nothing(
    browser: Browser, console: Running, keystore: Path
) -> None:
    """Neither by scripts, frames, windows nor forms, while a session is open."""
    Hostile.target = console.origin
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(console.link)
        page.wait_for_selector("[data-k=create]")
        other = context.new_page()
        other.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        other.wait_for_function("document.title.startsWith('seen')")
        assert other.title() == "seen []"
        context.close()
        server.shutdown()
    assert not keystore.exists()


STATES: dict[str, Callable[[Any], object]] = {
    "keys": lambda page: page.click("text=Show expired"),
    "nothing found": lambda page: page.fill("[data-k='filter|q']", "zzz"),
    "create": lambda page: page.click("[data-k=create]"),
    "error": lambda page: (page.click("[data-k=create]"), page.click("#create .main")),
    "created": lambda page: create(page, f"k{id(page)}"),
    "rotate": lambda page: page.click("[data-k='rotate|ci']"),
    "revoke": lambda page: page.click("[data-k='trash|ci']"),
    "finish": lambda page: page.click("[data-k^='flag|']"),
    "key": lambda page: page.click("[data-k='row|ci'] a"),
    "edit": lambda page: (page.click("[data-k='row|ci'] a"), page.click("[data-k='edit|ci']")),
    "log": lambda page: page.click("[data-k='nav|log']"),
    "findings": lambda page: page.click("[data-k='nav|findings']"),
    "policy": lambda page: page.click("[data-k='nav|policy']"),
    "signed out": lambda page: page.click("[data-k=sign-out]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, console: Running, run: Run, scheme: str) -> None:
    """In every state, wide and narrow; and nothing is wider than the window at 320 pixels."""
    run("create", "ci", "--role", "reader", "--label", "env=production", "--description", "Nightly")
    run("create", "web", "--role", "admin")
    run("rotate", "web", "--overlap", "2d")
    pictures = os.environ.get("APIKEY_PICTURES")
    with opened(browser, console.link, color_scheme=scheme, bypass_csp=True) as page:
        page.wait_for_selector("tbody tr")
        page.evaluate(axe())
        for name, go in STATES.items():
            go(page)
            page.wait_for_timeout(150)
            for width in (1280, 320) if scheme == "light" else (1280,):
                page.set_viewport_size({"width": width, "height": 800})
                found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
                bad = [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
                assert bad == [], (name, width)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
                if pictures:
                    page.screenshot(path=f"{pictures}/{name}-{scheme}-{width}.png")
            while page.locator("dialog[open]").count():
                page.evaluate("document.querySelector('dialog[open]').remove()")
            if name != "signed out":
                page.click("[data-k='nav|keys']")


@pytest.mark.slow
def test_the_users_of_metricshub_sign_in(
    browser: Browser, keystore: Path, environment: dict[str, str]
) -> None:
    """One who may only look has no buttons that change anything; nothing is printed."""
    add_user(keystore, "otto", "secret word", "ro")
    ApiKeys(keystore).create("ci")
    with serving(
        keystore, "--users", environment=environment, pattern=r"(https?://[^ ]*?:(\d+))/\."
    ) as console:
        assert "#" not in console.server.text
        with opened(browser, console.origin) as page:
            page.fill("#in-user", "otto")
            page.fill("#in-password", "wrong")
            page.click("text=Sign in >> nth=-1")
            page.wait_for_selector("text=The user or the password is wrong.")
            page.fill("#in-password", "secret word")
            page.click("button:has-text('Sign in')")
            page.wait_for_selector("[data-k='row|ci']")
            assert page.locator("[data-k=create], .act").count() == 0


NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; server_name localhost;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass http://127.0.0.1:{console};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https disable_redirects
}}
https://localhost:{port} {{
  tls {certificate} {key}
  reverse_proxy 127.0.0.1:{console}
}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_behind_a_proxy_with_tls(
    name: str, browser: Browser, keystore: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """With --public-url the page works there, and nowhere else."""
    add_user(keystore, "alice", "secret word")
    port, inner, files = free_port(), free_port(), certificate(tmp_path)
    text = {"nginx": NGINX, "caddy": CADDY}[name].format(
        folder=tmp_path, port=port, console=inner, certificate=files.certificate, key=files.key
    )
    (tmp_path / "configuration").write_text(text)
    tmp_path.chmod(0o755)
    command = [
        program(name),
        *(["-c"] if name == "nginx" else ["run", "--adapter", "caddyfile", "--config"]),
        str(tmp_path / "configuration"),
    ]
    public = f"https://localhost:{port}"
    options = ("--users", "--public-url", public, "--port", str(inner))
    proxy_environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    with (
        running(
            [*COMMAND, "console", "--keystore", str(keystore), *options],
            port=inner,
            environment=environment,
        ),
        running(command, port=port, environment=proxy_environment),
        opened(browser, public, ignore_https_errors=True) as page,
    ):
        page.fill("#in-user", "Alice")
        page.fill("#in-password", "secret word")
        page.click("button:has-text('Sign in')")
        page.click("[data-k=create]")
        page.fill("#f-name", "ci")
        page.click("#create .main")
        page.wait_for_selector("#secret")
        assert ask(inner, "/").status == 421
    assert ApiKeys(keystore).get("ci").metadata.created_by == "user:alice"


def test_the_files_of_the_page_are_small() -> None:
    """They come over the wire in less than 25 KB."""
    from metricshub_apikey.console.page import FILES, Page

    small = [Page().answer("GET", path, {b"accept-encoding": b"gzip"}).body for path in FILES]
    assert sum(map(len, small)) < 25_000


def test_the_script_keeps_its_types() -> None:
    """`tsc --checkJs` finds nothing, where TypeScript is installed."""
    tsc = shutil.which("tsc") or os.environ.get("TSC")
    if tsc is None:
        missing("tsc is not installed: npm install --global typescript")
    folder = Path(__file__).resolve().parents[2] / "src/metricshub_apikey/console"
    flags = "--noEmit --allowJs --checkJs --strict --noImplicitAny false --strictNullChecks false"
    files = [folder / "console.d.ts", folder / "static" / "console.js"]
    more = "--target es2023 --lib es2023,dom,dom.iterable"
    done = subprocess.run(
        [tsc, *flags.split(), *more.split(), "--types", "", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_nothing_in_the_script_makes_markup_of_text() -> None:
    """No innerHTML and its like: elements are built, texts are texts."""
    folder = Path(__file__).resolve().parents[2] / "src/metricshub_apikey/console/static"
    text = (folder / "console.js").read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|srcdoc", text
    )
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg|127\.0\.0\.1:|metricshub\.example)", text
    )
