"""What a request must be before anything is done about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consoles import HOST, Bench
from metricshub_apikey.console.guard import Place


@pytest.fixture
def bench(keystore: Path) -> Bench:
    """Return a console in which the person at the shell is signed in."""
    bench = Bench(keystore)
    bench.sign_in()
    return bench


@pytest.mark.parametrize("name", ["host", "origin", "authorization", "content-type"])
def test_a_header_that_is_there_twice_is_refused(bench: Bench, name: str) -> None:
    """Two programs would read it differently."""
    twice = [(name, "x"), (name, "y")]
    reply = bench.ask("GET", "/v1/keys", headers=twice, host="" if name == "host" else HOST)
    assert (reply.status, reply.json["code"]) == (400, "duplicated-header")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8765", "localhost.evil", "10.0.0.1", "[::2]"]
)
@pytest.mark.parametrize("path", ["/", "/console.js", "/v1/keys", "/healthz", "/v1/openapi.json"])
def test_a_foreign_host_is_refused(bench: Bench, host: str, path: str) -> None:
    """DNS rebinding: a name of the attacker's that leads to this machine."""
    assert bench.ask("GET", path, host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8765"])
def test_loopback_has_any_port(bench: Bench, host: str) -> None:
    """`ssh -L` may show the console under another port."""
    assert bench.ask("GET", "/v1/keys", host=host).status == 200


def test_no_host_at_all_is_refused(bench: Bench) -> None:
    """HTTP/1.1 has one."""
    assert bench.ask("GET", "/v1/keys", host="").status == 400


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:9999",
        "https://127.0.0.1:8765",
        "http://evil.example",
        "null",
        "http://localhost:8765",
    ],
)
def test_another_origin_may_not_call_the_api(bench: Bench, origin: str) -> None:
    """Neither another port of this host, nor another scheme, nor a sandboxed frame."""
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("OPTIONS", "/v1/keys")):
        reply = bench.ask(method, path, headers=[("origin", origin)])
        assert (reply.status, reply.json["code"]) == (403, "foreign-origin")
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_page_s_own_origin_may(bench: Bench) -> None:
    """Also in capitals, as some clients write hosts."""
    headers = [("origin", "http://127.0.0.1:8765"), ("sec-fetch-site", "same-origin")]
    assert bench.ask("GET", "/v1/keys", headers=headers).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_fetch_metadata_tells_another_site(bench: Bench, site: str) -> None:
    """A navigation to the page may come from a wiki; the API is not for other sites."""
    headers = [("sec-fetch-site", site)]
    assert bench.ask("GET", "/v1/keys", headers=headers).status == 403
    assert bench.ask("GET", "/", headers=headers).status == 200


def test_behind_a_proxy_only_the_public_name_counts(keystore: Path) -> None:
    """The default port may be written or not."""
    bench = Bench(keystore, place=Place("https://keys.example"))
    ticket = {"ticket": bench.console.sessions.new_ticket()}
    opened = bench.ask("POST", "/v1/sessions", ticket, host="KEYS.example:443")
    assert opened.status == 201
    bench.token = opened.json["token"]
    right, wrong = ("origin", "https://keys.example"), ("origin", "http://keys.example")
    assert bench.ask("GET", "/v1/keys", host="keys.example", headers=[right]).status == 200
    assert bench.ask("GET", "/v1/keys", host="keys.example", headers=[wrong]).status == 403
    assert bench.ask("GET", "/v1/keys", host="127.0.0.1:8765").status == 421


def test_a_large_body_is_refused(bench: Bench) -> None:
    """65,536 bytes are the most, said or not."""
    reply = bench.ask("POST", "/v1/keys", b'{"alias": "' + b"x" * 65_536 + b'"}')
    assert reply.status == 413
    long = [("content-length", "9" * 20), ("content-type", "application/json")]
    assert bench.ask("POST", "/v1/keys", headers=long).status == 413


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/json; charset=latin-1",
        "application/merge-patch+json",
    ],
)
def test_a_form_is_no_json(bench: Bench, kind: str) -> None:
    """What a form on another site could send without asking first is refused."""
    reply = bench.ask("POST", "/v1/keys", {"alias": "ci"}, headers=[("content-type", kind)])
    assert (reply.status, reply.json["code"]) == (415, "media-type")


def test_a_compressed_body_is_refused(bench: Bench) -> None:
    """It could be of any size."""
    headers = [("content-encoding", "gzip")]
    assert bench.ask("POST", "/v1/keys", {"alias": "ci"}, headers=headers).status == 415


@pytest.mark.parametrize(
    "path", ["/", "/console.css", "/console.js", "/icon.svg", "/nothing", "/v1/keys", "/v1/x"]
)
def test_every_answer_says_what_a_browser_may_do(bench: Bench, path: str) -> None:
    """The policy allows our own script and style, frames nowhere, and stores nothing."""
    headers = bench.ask("GET", path).headers
    policy = headers["content-security-policy"]
    for directive in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ):
        assert directive in policy.split("; ")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers


def test_without_a_token_nothing_is_told(keystore: Path) -> None:
    """All paths of the API but the sign-in, its description and the health need one."""
    bench = Bench(keystore)
    for method, path in (
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/keys/x"),
        ("PATCH", "/v1/keys/x"),
        ("DELETE", "/v1/keys/x"),
        ("POST", "/v1/keys/x/rotation"),
        ("DELETE", "/v1/keys/x/rotation"),
        ("POST", "/v1/self/rotation"),
        ("POST", "/v1/verification"),
        ("GET", "/v1/events"),
        ("GET", "/v1/usage"),
        ("GET", "/v1/policy"),
        ("GET", "/v1/findings"),
        ("DELETE", "/v1/sessions/current"),
    ):
        for headers in ([], [("authorization", "Basic eDp5")], [("authorization", "Bearer wrong")]):
            reply = bench.ask(method, path, headers=headers)
            assert (reply.status, reply.json["code"]) == (401, "not-signed-in"), (method, path)
            assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_page_is_only_read(bench: Bench) -> None:
    """Nothing can be sent to it; `--api-only` has none."""
    assert bench.ask("POST", "/").headers["allow"] == "GET, HEAD"
    assert Bench(bench.keystore, page=False).ask("GET", "/").status == 404


def test_paths_and_methods_that_are_not_there(bench: Bench) -> None:
    """404 and 405 are problem documents; 405 says what there is."""
    for path in (
        "/v1",
        "/v1/",
        "/v1/keys/",
        "/v1/keys/a/b",
        "/v1/keys//rotation",
        "/v2",
        "/V1/keys",
    ):
        assert bench.ask("GET", path).status == 404, path
    reply = bench.ask("PUT", "/v1/keys")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, HEAD")
    assert reply.headers["content-type"] == "application/problem+json"
