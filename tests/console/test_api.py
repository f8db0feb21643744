"""The API: what it answers, and what it leaves on the disk."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from consoles import Bench
from metricshub_apikey import ApiKeys
from metricshub_apikey.console.address import alias_in, segment
from metricshub_apikey.files import lock
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keystore.keystore import Keystore

STRICT = """
[keys]
require_expiry = true
max_lifetime = "90d"
lifetimes = ["30d", "90d"]
require_role = true
[roles.reader]
allow = ["GET /**"]
"""


@pytest.fixture
def bench(keystore: Path) -> Bench:
    """Return a console in which the person at the shell is signed in."""
    bench = Bench(keystore)
    bench.sign_in()
    return bench


def path(alias: str) -> str:
    """Return the path of a key that no client rewrites."""
    return f"/v1/keys/{segment(alias)}"


def test_a_key_made_here_is_the_shell_s(bench: Bench, run: Run) -> None:
    """The same document, the key once, a Location that leads to it."""
    fields = {
        "roles": ["b", "a"],
        "labels": {"env": "x=y"},
        "description": "d",
        "expires_in": "30d",
    }
    reply = bench.ask("POST", "/v1/keys", {"alias": "CI-prod", **fields})
    assert reply.status == 201
    assert reply.headers["location"] == path("ci-prod")
    made = reply.json
    assert list(made) == [*KEY_FIELDS, "key", "notes"]
    assert ApiKeys(bench.keystore).get("ci-prod").secret.reveal() == made["key"]
    shown = bench.ask("GET", reply.headers["location"])
    assert shown.headers["etag"] == reply.headers["etag"]
    assert shown.json == {name: made[name] for name in KEY_FIELDS}
    there = json.loads(run("show", "ci-prod", "-o", "json").stdout)
    dated = {"expired", "last_used_at"}  # the shell has another clock
    assert {name: there[name] for name in set(KEY_FIELDS) - dated} == {
        name: made[name] for name in set(KEY_FIELDS) - dated
    }
    assert made["key"] not in bench.ask("GET", "/v1/keys").body.decode()


def test_a_key_made_at_the_shell_is_here_at_once(bench: Bench, run: Run) -> None:
    """The list has another ETag then."""
    first = bench.ask("GET", "/v1/keys")
    assert first.json["notes"][0]["code"] == "no-keystore"
    run("create", "ci")
    tag = [("if-none-match", first.headers["etag"])]
    second = bench.ask("GET", "/v1/keys", headers=tag)
    assert [key["alias"] for key in second.json["keys"]] == ["ci"]
    tag = [("if-none-match", f"W/{second.headers['etag']}")]
    third = bench.ask("GET", "/v1/keys", headers=tag)
    assert (third.status, third.body) == (304, b"")


def test_another_query_and_another_policy_have_another_etag(bench: Bench) -> None:
    """A list that a filter made is not the whole list."""
    bench.create("ci")
    tags = {
        bench.ask("GET", f"/v1/keys{query}").headers["etag"] for query in ("", "?q=x", "?limit=1")
    }
    bench.policy(STRICT)
    tags.add(bench.ask("GET", "/v1/keys").headers["etag"])
    assert len(tags) == 4


def test_filters(bench: Bench) -> None:
    """Each parameter, alone and with others."""
    bench.create("a", roles=["r"], labels={"env": "prod"}, expires_on="2027-04-01")
    bench.create("b", roles=["r", "s"], description="Nightly Übung")
    bench.create("c", expires_in="1h")
    bench.passed = 7200
    bench.sign_in()

    def found(query: str) -> list[str]:
        return [key["alias"] for key in bench.ask("GET", f"/v1/keys?{query}").json["keys"]]

    assert found("") == ["a", "b", "c"]
    assert found("role=r") == ["a", "b"]
    assert found("role=r&role=s") == ["b"]
    assert found("label=env=prod") == found("label=env") == ["a"]
    assert found("state=expired") == ["c"]
    assert found("state=active&role=r") == ["a", "b"]
    assert found("state=unreadable") == []
    assert found("expires_before=2027-04-02") == ["a", "c"]
    assert found("q=nightly%20%C3%BCb") == ["b"]
    assert found("unused_for=30d") == []


def test_pages(bench: Bench) -> None:
    """The links lead through all keys once."""
    for number in range(5):
        bench.create(f"key {number}/ü")
    found, target = [], "/v1/keys?limit=2"
    while target:
        reply = bench.ask("GET", target)
        found += [key["alias"] for key in reply.json["keys"]]
        target = reply.headers.get("link", "").partition(">")[0].lstrip("<")
    assert found == [f"key {number}/ü" for number in range(5)]
    assert bench.ask("GET", "/v1/keys?after=nothing").json["field"] == "after"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=10001",
        "limit=1&limit=2",
        "state=x",
        "expires_before=x",
        "unused_for=x",
        "sort=x",
        "limit=%C2%B2",
    ],
)
def test_a_query_that_makes_no_sense(bench: Bench, query: str) -> None:
    """422, with the parameter where one is meant."""
    assert bench.ask("GET", f"/v1/keys?{query}").status == 422


def test_a_query_that_is_none(bench: Bench) -> None:
    """400: not UTF-8, too many."""
    assert bench.ask("GET", "/v1/keys?q=%FF").status == 400
    assert bench.ask("GET", "/v1/keys?" + "q=1&" * 60).status == 400


@given(st.text(min_size=1))
def test_every_alias_has_an_address(alias: str) -> None:
    """Whatever characters it has, and there is one way to write it."""
    assert alias_in(segment(alias)) == alias
    assert alias_in(segment(alias) + "=") is None


@given(st.text(alphabet="~ABCdef019-_=%/.", max_size=12))
def test_an_address_is_read_in_one_way(written: str) -> None:
    """What is decoded from base64url is encoded to the same again."""
    found = alias_in(written)
    if written.startswith("~") and found is not None:
        assert segment(found) == written


@pytest.mark.parametrize("alias", ["a/b", "..", ".", "~x", "a%2fb", "ü b", "?#", "a//b", "~"])
def test_odd_aliases_are_reached(bench: Bench, alias: str) -> None:
    """By base64url; also percent-encoded, but for those that begin with ~."""
    bench.create(alias)
    assert bench.ask("GET", path(alias)).json["alias"] == alias
    if not alias.startswith("~"):
        encoded = "".join(f"%{byte:02X}" for byte in alias.encode())
        assert bench.ask("GET", f"/v1/keys/{encoded}").json["alias"] == alias
    assert bench.ask("DELETE", path(alias)).status == 204
    assert bench.ask("GET", path(alias)).status == 404


@pytest.mark.parametrize("written", ["%", "%zz", "%FF", "~%41", "~*", "~QQ==", "~QR", "~"])
def test_what_is_no_address(bench: Bench, written: str) -> None:
    """404 with a sentence."""
    assert bench.ask("GET", f"/v1/keys/{written}").json["code"] == "key-not-found"


def test_editing_needs_what_was_seen(bench: Bench) -> None:
    """428 without If-Match, 412 with an old one; the change is in the log."""
    bench.create("ci", labels={"a": "1", "b": "2"}, description="old")
    assert bench.ask("PATCH", path("ci"), {"description": "new"}).status == 428
    tag = bench.ask("GET", path("ci")).headers["etag"]
    change = {"description": "new", "labels": {"a": None, "c": "3"}, "roles": ["r"]}
    done = bench.ask("PATCH", path("ci"), change, headers=[("if-match", tag)])
    assert done.status == 200
    assert done.json["labels"] == {"b": "2", "c": "3"}
    assert done.json["changed"] == ["roles", "description", "labels"]
    stale = bench.ask("PATCH", path("ci"), change, headers=[("if-match", tag)])
    assert (stale.status, stale.json["code"]) == (412, "stale")
    merge = [("if-match", done.headers["etag"]), ("content-type", "application/merge-patch+json")]
    cleared = bench.ask("PATCH", path("ci"), {"description": None, "labels": None}, headers=merge)
    assert (cleared.json["description"], cleared.json["labels"]) == (None, {})
    assert bench.ask("GET", "/v1/events?alias=CI").json["events"][-1]["action"] == "edit"


def test_an_edit_that_changes_nothing_writes_nothing(bench: Bench) -> None:
    """The file is as it was."""
    bench.create("ci", description="d")
    before = bench.keystore.stat()
    done = bench.ask("PATCH", path("ci"), {"description": "d"}, headers=[("if-match", "*")])
    assert done.json["changed"] == []
    assert bench.keystore.stat().st_ino == before.st_ino


def test_if_match_protects_other_changes_too(bench: Bench) -> None:
    """Where it is given."""
    bench.create("ci")
    old = [("if-match", '"old"')]
    assert bench.ask("DELETE", path("ci"), headers=old).status == 412
    assert bench.ask("POST", f"{path('ci')}/rotation", {}, headers=old).status == 412
    assert bench.ask("DELETE", path("ci")).status == 204


def test_a_rotation_and_its_end(bench: Bench) -> None:
    """The old key works on; a second rotation is refused until it is ended."""
    made = bench.create("ci")
    turned = bench.ask("POST", f"{path('ci')}/rotation", {"overlap": "2d"})
    assert turned.status == 201
    assert turned.json["key"] != made["key"]
    assert turned.json["old"]["alias"] == "ci.prev"
    again = bench.ask("POST", f"{path('ci')}/rotation", {})
    assert (again.status, again.json["code"]) == (409, "rotation-pending")
    verdict = bench.ask("POST", "/v1/verification", {"key": made["key"]}).json
    assert (verdict["accepted"], verdict["key"]["alias"]) == (True, "ci.prev")
    assert bench.ask("DELETE", f"{path('ci')}/rotation").status == 204
    assert bench.ask("DELETE", f"{path('ci')}/rotation").json["code"] == "not-rotated"
    assert bench.ask("POST", "/v1/verification", {"key": made["key"]}).json["reason"] == "rotated"
    at_once = bench.ask("POST", f"{path('ci')}/rotation", {"overlap": "0"})
    assert at_once.json["old"] is None


def test_an_old_key_in_use_is_not_ended_by_chance(bench: Bench) -> None:
    """409 says when it was used; `force=true` ends it all the same."""
    from metricshub_apikey.activity.database import ActivityLog, path_beside
    from metricshub_apikey.keys.fingerprint import fingerprint

    made = bench.create("ci")
    bench.ask("POST", f"{path('ci')}/rotation", {})
    log = ActivityLog(path_beside(str(bench.keystore)))
    log.record_uses({fingerprint(made["key"]): ("ci", bench.now())})
    bench.passed += 240
    reply = bench.ask("DELETE", f"{path('ci')}/rotation")
    assert (reply.status, reply.json["code"]) == (409, "old-key-used")
    assert "4 min ago" in reply.json["detail"]
    used = bench.ask("GET", "/v1/usage").json["keys"]
    assert used == {"ci.prev": {"last_used_at": "2027-03-01T12:00:00Z"}}
    assert bench.ask("DELETE", f"{path('ci')}/rotation?force=true").status == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"alias": ""}, "alias"),
        ({"alias": 1}, "alias"),
        ({}, "alias"),
        ({"alias": " a"}, "alias"),
        ({"alias": "ci"}, "alias"),
        ({"alias": "a", "roles": "r"}, "roles"),
        ({"alias": "a", "roles": ["no role"]}, "roles"),
        ({"alias": "a", "labels": []}, "labels"),
        ({"alias": "a", "labels": {"ä": "x"}}, "labels"),
        ({"alias": "a", "labels": {"a": 1}}, "labels"),
        ({"alias": "a", "expires_in": "x"}, "expires_in"),
        ({"alias": "a", "expires_on": "x"}, "expires_on"),
        ({"alias": "a", "expires_on": "2020-01-01"}, "expires_on"),
        ({"alias": "a", "expires_in": "1d", "expires_on": "2028-01-01"}, "expires_in"),
        ({"alias": "a", "description": "x" * 1001}, "description"),
        ({"alias": "a", "service_account": "\x00"}, "service_account"),
        ({"alias": "a", "rolls": []}, None),
    ],
)
def test_what_cannot_be_made(bench: Bench, body: object, field: str | None) -> None:
    """The problem names the field, and nothing was made."""
    bench.create("ci")
    reply = bench.ask("POST", "/v1/keys", body)
    assert reply.status == (409 if body == {"alias": "ci"} else 422)
    assert field is None or reply.json["field"] == field
    assert len(ApiKeys(bench.keystore).list()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"alias": "a", "alias": "b"}',
        b'{"alias": NaN}',
        b"\xff",
        b"[" * 60_000,
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_what_is_not_json(bench: Bench, body: bytes) -> None:
    """400, never 500."""
    assert bench.ask("POST", "/v1/keys", body).json["code"] == "not-json"


def test_the_policy_holds_here_too(bench: Bench) -> None:
    """Each rule, with its field, and the file's change at once."""
    bench.policy(STRICT)
    for fields, field in (
        ({}, "expires_on"),
        ({"expires_in": "30d"}, "roles"),
        ({"expires_in": "30d", "roles": ["x"]}, "roles"),
        ({"expires_in": "60d", "roles": ["reader"]}, "expires_in"),
        ({"expires_on": "2028-01-01", "roles": ["reader"]}, "expires_on"),
    ):
        reply = bench.ask("POST", "/v1/keys", {"alias": "a", **fields})
        assert (reply.status, reply.json["code"], reply.json["field"]) == (
            422,
            "policy-breach",
            field,
        )
    bench.create("a", expires_in="30d", roles=["reader"])
    shown = bench.ask("GET", "/v1/policy").json
    assert shown["roles"]["reader"]["allow"] == ["GET /**"]
    bench.policy("nonsense")
    reply = bench.ask("POST", "/v1/keys", {"alias": "b"})
    assert (reply.status, reply.json["code"]) == (503, "policy-invalid")
    notes = bench.ask("GET", "/v1/keys").json["notes"]
    assert [note["code"] for note in notes] == ["policy-invalid"]
    assert bench.ask("GET", "/v1/findings").json["severity"] == "critical"
    assert bench.ask("DELETE", path("a")).status == 204


def test_a_damaged_keystore_is_told_and_comes_back(bench: Bench) -> None:
    """503 with the command's words, as long as it lasts; nothing is written over it."""
    bench.create("ci")
    good = bench.keystore.read_bytes()
    bench.keystore.write_bytes(good[:-9] + bytes(9))
    for method, target in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/healthz")):
        body = {"alias": "x"} if method == "POST" else None
        reply = bench.ask(method, target, body)
        assert (reply.status, reply.json["code"]) == (503, "keystore-damaged")
        assert str(bench.keystore) in reply.json["detail"]
    bench.keystore.write_bytes(good)
    assert bench.ask("GET", "/v1/keys").status == 200


def test_a_locked_keystore_is_told(bench: Bench) -> None:
    """After the time limit: 503, try again; reading goes on."""
    bench.create("ci")
    with lock.hold(str(bench.keystore), owner=None, timeout=1):
        reply = bench.ask("DELETE", path("ci"))
        assert bench.ask("GET", "/v1/keys").status == 200
    assert (reply.status, reply.json["code"]) == (503, "keystore-busy")
    assert reply.headers["retry-after"] == "1"
    assert bench.ask("DELETE", path("ci")).status == 204


def test_a_keystore_that_goes_and_comes(bench: Bench) -> None:
    """Gone is a note; another one in its place is read at once."""
    bench.create("ci")
    aside = bench.keystore.with_suffix(".aside")
    os.rename(bench.keystore, aside)
    assert bench.ask("GET", "/v1/keys").json["notes"][0]["code"] == "no-keystore"
    assert bench.ask("GET", path("ci")).status == 404
    os.rename(aside, bench.keystore)
    assert bench.ask("GET", path("ci")).status == 200


def test_a_record_that_fails_is_a_note(bench: Bench) -> None:
    """The key is made, and handed out."""
    bench.create("ci")
    for file in bench.keystore.parent.glob("apikey-activity.db*"):
        file.unlink()
    (bench.keystore.parent / "apikey-activity.db").mkdir()
    made = bench.create("ci-2")
    assert made["key"]
    assert [note["code"] for note in made["notes"]] == ["not-recorded"]
    assert bench.ask("GET", "/v1/events").json["code"] == "activity-failed"


def test_others_cannot_hide_anything_in_the_keystore(bench: Bench) -> None:
    """Texts that others wrote come out as JSON, whatever they are."""
    from metricshub_apikey.keys.metadata import ATTRIBUTES
    from metricshub_apikey.pkcs12.bag import Bag, encode_bag
    from metricshub_apikey.pkcs12.store import Store

    odd = "</script><img src=x onerror=alert(1)>\u2028\x1b[31m"

    def plant(store: Store) -> None:
        entry = "api_key:" + odd.lower()
        secret = store.encrypt(entry, b"planted", os.urandom)
        texts = {1: (odd,), 2: (odd,), 3: (odd,), 4: (odd,), 5: (f"x={odd}",)}
        store.adopt(Bag(encode_bag(entry, 0, *secret, ATTRIBUTES.encode(texts))))

    Keystore(bench.keystore).update(plant, create=True)
    (key,) = bench.ask("GET", "/v1/keys").json["keys"]
    assert key["description"] == odd
    assert bench.ask("GET", path(key["alias"])).json == key
    assert bench.ask("DELETE", path(key["alias"])).status == 204


def test_many_changes_at_once_are_all_done(bench: Bench) -> None:
    """One after the other; each answer is true."""

    async def at_once() -> list[int]:
        sent = [bench.send("POST", "/v1/keys", {"alias": f"key{n % 20}"}) for n in range(40)]
        return sorted(reply.status for reply in await asyncio.gather(*sent))

    assert asyncio.run(at_once()) == [201] * 20 + [409] * 20
    assert len(ApiKeys(bench.keystore).list()) == 20
