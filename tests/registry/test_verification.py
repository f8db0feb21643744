"""Whether a key would be accepted and why not: the decision, and `apikey verify`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from clock import HERE, at
from conftest import COMMAND, Run
from fields import fields
from metricshub_apikey import ApiKey, ApiKeys
from metricshub_apikey.activity.database import Event
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.prefixed import new_prefixed_key
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import STOCK, Policy, Role
from metricshub_apikey.registry.verification import Demand, Verdict, token_in, verify
from metricshub_apikey.secret import UNREADABLE, Secret
from stock import Stock
from terminal import CTRL_C, CTRL_D, Terminal

NOW = datetime(2030, 5, 6, 7, 8, 9)
DAY = timedelta(days=1)
TOKEN = "3f2b1c4d-8e5f-4a2b-bc15-0ba0f60b15f3"
ROLES = Policy(
    roles={"reader": Role(allow=("GET /**",)), "pusher": Role(allow=("POST /api/v1/**",))}
)

Done = subprocess.CompletedProcess[str]
Environment = dict[str, str]


def key(
    alias: str = "web",
    token: str = TOKEN,
    expires_on: datetime | None = None,
    roles: tuple[str, ...] = (),
) -> ApiKey:
    """Return a key."""
    return ApiKey(alias, Secret(token), expires_on, 0, None, Metadata(roles=roles))


def decide(
    token: str,
    *keys: ApiKey,
    policy: Policy = STOCK,
    demand: Demand = Demand(),  # noqa: B008 - it cannot change
    history: Sequence[Event] = (),
) -> Verdict:
    """Return the verdict on a token."""
    return verify(token, keys, now=at(NOW), policy=policy, demand=demand, history=lambda _: history)


def event(
    action: str, alias: str = "web", at: datetime = datetime(2030, 1, 2, tzinfo=UTC)
) -> Event:
    """Return something that was done."""
    return Event(at, "somebody@here", action, alias, "fingerprint")


# Reading the header


@pytest.mark.parametrize(
    "line",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        f"Authorization: Bearer {TOKEN}",
        f"authorization:bearer {TOKEN}",
        f"AUTHORIZATION : BEARER\t {TOKEN}",
        f"  Authorization:   Bearer   {TOKEN}  ",
        f"Authorization: {TOKEN}",
        f"{TOKEN}\r",
        f"\t{TOKEN}\x0b",
    ],
)
def test_where_the_key_is(line: str) -> None:
    """With or without the header's name and scheme, in any case and with any white space."""
    assert token_in(line) == TOKEN


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ("", ""),
        ("Bearer ", ""),
        ("Bearer", ""),
        ("Bearerabc", "Bearerabc"),
        ("Authorization: Basic dTpw", "Basic dTpw"),
        ("Bearer a b", "Bearer a b"),
        ("Bearer Bearer x", "Bearer Bearer x"),
        ("X-Api-Key: abcd", "X-Api-Key: abcd"),
    ],
)
def test_what_else_is_there(line: str, token: str) -> None:
    """What is not one token stays as it is, but for the header's name: the decision names it."""
    assert token_in(line) == token


@examples(100)
@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=60))
def test_a_header_around_any_token(token: str) -> None:
    """What is put into a header comes out of it."""
    assert token_in(f"Authorization: Bearer {token}") == token


def test_a_header_that_would_take_long() -> None:
    """White space in the middle of a long line costs no more than other characters."""
    line = "x" + " " * 1_000_000 + "x"
    assert token_in(line) == line


# The decision


def test_an_accepted_key() -> None:
    """The key is named, and all that is said of it is that it would be accepted."""
    found = decide(TOKEN, key("other", "other-1234"), key())
    assert found == Verdict("accepted", "accepted", key())
    assert found.accepted


@pytest.mark.parametrize(
    ("expires_on", "reason"),
    [
        (None, "accepted"),
        (NOW + timedelta(seconds=1), "accepted"),
        (NOW, "expired"),
        (NOW - DAY, "expired"),
    ],
)
def test_expiry(expires_on: datetime | None, reason: str) -> None:
    """In the very second of its expiry a key is refused, as a server does."""
    assert decide(TOKEN, key(expires_on=expires_on)).reason == reason


def test_since_when() -> None:
    """The sentence has the time since which it is refused, and the key is named."""
    found = decide(TOKEN, key(expires_on=NOW - DAY))
    assert (found.sentence, found.key is None) == ("expired since 2030-05-05T07:08:09", False)
    assert not found.accepted


@pytest.mark.parametrize(
    "token",
    ["", "abc", "a b c d", "abcdé", "abcd\x00", "abcd\n", "x" * 513, "\ud800abcd", "日本語日本"],
)
def test_malformed(token: str) -> None:
    """What could not be a key is called that, whatever the record says."""
    assert decide(token, key(), history=[event("revoke")]) == Verdict(
        "malformed", "malformed: no API key looks like this"
    )


@pytest.mark.parametrize("token", ["abc", "a b", "pässword", "日本", "x" * 600, "a\x00b"])
def test_the_very_key_is_never_malformed(token: str) -> None:
    """A key of somebody else's may look odd; if it is in the keystore it counts."""
    assert decide(token, key(token=token)).reason == "accepted"


def test_mistyped() -> None:
    """One wrong character in a prefixed key is told from a key that nobody knows."""
    made = new_prefixed_key("acme_", os.urandom)
    other = "b" if made[10] == "a" else "a"
    assert decide(made, key()).reason == "unknown"
    found = decide(made[:10] + other + made[11:], key())
    assert (found.reason, found.sentence) == ("mistyped", "mistyped: its checksum does not fit")
    assert decide(made, key(token=made)).reason == "accepted"


@pytest.mark.parametrize("token", [TOKEN.upper(), TOKEN[:-1], TOKEN + "0", "abcd"])
def test_unknown(token: str) -> None:
    """Nothing but the whole key, in its own case, is that key."""
    assert decide(token, key()) == Verdict("unknown", "unknown: it is not in this keystore")


def test_an_unreadable_key_matches_nothing() -> None:
    """An entry without a readable secret is no reason to accept an empty one."""
    odd = ApiKey("odd", UNREADABLE, None, 0, "it is not UTF-8")
    for token in ("", "None"):
        assert not decide(token, odd, key("empty", "")).accepted


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("revoke", "revoked"),
        ("prune", "revoked"),
        ("rotate", "rotated"),
        ("finish", "rotated"),
        ("create", "unknown"),
        ("edit", "unknown"),
        ("fix", "unknown"),
    ],
)
def test_what_became_of_it(action: str, reason: str) -> None:
    """Of a key that is gone the record says how; the last thing counts."""
    found = decide(TOKEN, history=[event("create"), event(action)])
    assert (found.reason, found.key) == (reason, None)
    if reason != "unknown":
        at = to_local(datetime(2030, 1, 2, tzinfo=UTC), HERE).isoformat()
        assert found.sentence == f"'web', {reason} at {at} by somebody@here"
    ends = [event("rotate"), event("revoke", "site")]
    assert decide(TOKEN, history=ends).sentence.startswith("'site', revoked at")


@pytest.mark.parametrize(
    ("roles", "demand", "policy", "reason"),
    [
        (("reader",), Demand(("reader",)), STOCK, "accepted"),
        (("reader",), Demand(("reader", "pusher")), STOCK, "no-role"),
        ((), Demand(("reader",)), STOCK, "no-role"),
        (("reader",), Demand(("Reader",)), STOCK, "no-role"),
        ((), Demand(request="DELETE /x"), STOCK, "accepted"),
        ((), Demand(request="GET /x"), ROLES, "not-permitted"),
        (("reader",), Demand(request="GET /x"), ROLES, "accepted"),
        (("reader",), Demand(request="POST /api/v1/x"), ROLES, "not-permitted"),
        (("pusher",), Demand(request="POST /api/v1/x"), ROLES, "accepted"),
        (("pusher",), Demand(request="POST /api/v1/../x"), ROLES, "not-permitted"),
        (("pusher", "reader"), Demand(("pusher",), "GET /"), ROLES, "accepted"),
        (("pusher",), Demand(("reader",), "POST /api/v1/x"), ROLES, "no-role"),
        (("retired",), Demand(request="GET /x"), ROLES, "not-permitted"),
    ],
)
def test_permission(roles: tuple[str, ...], demand: Demand, policy: Policy, reason: str) -> None:
    """A role must be there by its name, and one of the roles must permit the request."""
    found = decide(TOKEN, key(roles=roles), policy=policy, demand=demand)
    assert (found.reason, found.key) == (reason, key(roles=roles))


def test_an_expired_key_is_expired_whatever_it_may_do() -> None:
    """The first reason to refuse it is the one that is told."""
    found = decide(TOKEN, key(expires_on=NOW), demand=Demand(("reader",)))
    assert found.reason == "expired"


# The command


@pytest.fixture
def secret(registry: ApiKeys) -> str:
    """Return a key of the test's keystore."""
    return registry.create("web").secret.reveal() or ""


def check(done: Done, code: int, stdout: str = "", stderr: str = "") -> None:
    """Compare everything that a command did for its caller."""
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


ACCEPTED = "web: accepted (No expiration)\n"
MALFORMED = "refused (malformed: no API key looks like this)\n"
UNKNOWN = "refused (unknown: it is not in this keystore)\n"


@pytest.mark.parametrize("form", ["{}", "Authorization: Bearer {}\r\n", "{}\nmore\n"])
def test_an_accepted_line(run: Run, secret: str, keystore: Path, form: str) -> None:
    """A key or a header in the first line is enough, and nothing is written."""
    before = {path: path.read_bytes() for path in keystore.parent.iterdir()}
    check(run("verify", stdin=form.format(secret)), 0, ACCEPTED)
    assert {path: path.read_bytes() for path in keystore.parent.iterdir()} == before


@pytest.mark.parametrize(
    "given", [b"", b"\n", b"\0", b"x\0y", "ünï-😀".encode(), b"\xff\xfe", b"a b"]
)
@pytest.mark.usefixtures("secret")
def test_a_refused_line(environment: Environment, given: bytes) -> None:
    """Whatever else comes is refused in one line, and none of it is shown."""
    done = subprocess.run(
        [*COMMAND, "verify"], input=given, env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (1, MALFORMED, b"")


@pytest.mark.parametrize("given", [" " * 1_000_000, "y" * 4000 + " " * 996_000 + "y"])
def test_a_megabyte(run: Run, secret: str, given: str) -> None:
    """A line without an end is cut off, not searched or kept."""
    check(run("verify", stdin=f"{given}\n{secret}"), 1, MALFORMED)


@pytest.mark.usefixtures("secret")
def test_no_standard_input(run: Run) -> None:
    """Nothing, closed or empty, is no key."""
    check(run("verify"), 1, MALFORMED)
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND]
    check(run("verify", command=closed), 1, MALFORMED)


def test_without_a_keystore(run: Run, tmp_path: Path) -> None:
    """A keystore that is not there knows nothing of a key, and is not made."""
    done = run("verify", stdin=TOKEN)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: There is no keystore at ")
    assert list(tmp_path.iterdir()) == []


def test_reasons_of_a_life(run: Run, registry: ApiKeys) -> None:
    """Created, rotated, finished, revoked: the command knows of each key what became of it."""
    first = run("create", "web", "-q").stdout.strip()
    second = run("rotate", "web", "-q").stdout.strip()
    done = run("verify", stdin=first)
    assert done.returncode == 0
    assert done.stdout.startswith("web.prev: accepted (Expires on ")
    assert "; rotated at " in done.stdout
    run("rotate", "web", "--finish")
    done = run("verify", stdin=first)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("refused ('web', rotated at ")
    check(run("verify", stdin=second), 0, ACCEPTED)
    run("revoke", "web")
    done = run("verify", stdin=second)
    assert done.stdout.startswith("refused ('web', revoked at ")
    assert first not in done.stdout + done.stderr
    assert registry.list() == ()


def test_an_expired_key(run: Run, keystore: Path, stock: Stock) -> None:
    """A key of Java's that has expired is named, with the time, and Java agrees."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    stock.ask("create", keystore, "theirs", "their-key", "2001-02-03T04:05")
    check(
        run("verify", stdin="their-key"),
        1,
        "theirs: refused (expired since 2001-02-03T04:05:00)\n",
    )
    assert stock.ask("find", keystore, "their-key") == ["expired theirs"]


def test_json(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """The reason has a stable name, and the key's fields are there, but not the key."""
    made = registry.create("web", **fields(Metadata(roles=("reader",)))).secret.reveal() or ""
    done = run("verify", "-o", "json", stdin=made)
    found = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (found["accepted"], found["reason"], found["alias"]) == (True, "accepted", "web")
    assert (found["roles"], found["keystore"]) == (["reader"], str(keystore))
    assert made not in done.stdout
    done = run("verify", "-o", "json", "--role", "pusher", stdin=made)
    assert (done.returncode, document(done.stdout)["reason"]) == (1, "no-role")
    found = document(run("verify", "-o", "json", stdin=TOKEN).stdout)
    assert (found["accepted"], found["reason"], found["alias"]) == (False, "unknown", None)
    assert found["message"] == "unknown: it is not in this keystore"


def test_roles_and_requests(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """`--role` and `--request` ask the policy beside the keystore."""
    made = registry.create("web", **fields(Metadata(roles=("reader",)))).secret.reveal() or ""
    keystore.with_name("apikey.toml").write_text('[roles.reader]\nallow = ["GET /api/**"]\n')
    assert run("verify", "--role", "reader", "--request", "GET /api/x", stdin=made).returncode == 0
    check(
        run("verify", "--request", "POST /api/x", stdin=made),
        1,
        "web: refused (none of its roles permits POST /api/x)\n",
    )
    check(
        run("verify", "--role", "pusher", stdin=made),
        1,
        "web: refused (it does not have the role 'pusher')\n",
    )
    done = run("verify", "--request", "GET", stdin=made)
    assert (done.returncode, done.stdout) == (2, "")
    assert "such as 'POST /api/x'" in done.stderr


def test_a_broken_policy(run: Run, secret: str, keystore: Path) -> None:
    """Where the rules cannot be read nobody can say what would be accepted."""
    keystore.with_name("apikey.toml").write_text("nonsense")
    done = run("verify", stdin=secret)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


def test_unreadable_entries_are_warned_of(run: Run, secret: str, keystore: Path) -> None:
    """A stock server would stop at an entry that it cannot read, so the verdict says that, too."""

    def spoil(store: Store) -> None:
        store.add(ENTRY_PREFIX + "odd", b"\xff", created_ms=0, random_bytes=os.urandom)

    Keystore(keystore).update(spoil)
    done = run("verify", stdin=secret)
    assert (done.returncode, done.stdout) == (0, ACCEPTED)
    assert "a stock server stops at the first of them" in done.stderr


def test_a_damaged_record(run: Run, secret: str, keystore: Path) -> None:
    """Without a readable record there is a warning, and still a verdict."""
    run("create", "other")
    database = keystore.with_name("apikey-activity.db")
    database.write_bytes(b"nonsense" * 1000)
    check(run("verify", stdin=secret), 0, ACCEPTED)
    done = run("verify", stdin=TOKEN)
    assert (done.returncode, done.stdout) == (1, UNKNOWN)
    assert done.stderr.startswith(f"Warning: {database} cannot be read: it is damaged")
    done = run("verify", "-o", "json", stdin=secret)
    assert (done.returncode, document(done.stdout)["accepted"]) == (0, True)
    assert str(database) in document(done.stdout)["notes"][0]


def test_the_password_has_standard_input(run: Run, secret: str) -> None:
    """The key and the keystore's password cannot both come from standard input."""
    for arguments, environ in (
        (["--password-file", "-"], {}),
        ([], {"METRICSHUB_KEYSTORE_PASSWORD_FILE": "-"}),
    ):
        done = run("verify", *arguments, stdin=secret, env=environ)
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot both be standard input" in done.stderr


@pytest.mark.parametrize("errors", [True, False])
def test_on_a_terminal(secret: str, environment: Environment, *, errors: bool) -> None:
    """What is typed at the prompt is not shown, wherever standard error goes."""
    with Terminal(["verify"], environment, errors=errors) as terminal:
        terminal.wait_for("Key: ")
        assert not terminal.echoes()
        terminal.type(f"{secret}\n")
        assert terminal.end() == (0, ACCEPTED)
        assert terminal.shown == "Key: \n"
        assert terminal.echoes()


@pytest.mark.parametrize(
    ("typed", "code", "output"), [("\n", 1, MALFORMED), (CTRL_D, 1, MALFORMED), (CTRL_C, 130, "")]
)
def test_nothing_is_typed(
    secret: str, environment: Environment, typed: str, code: int, output: str
) -> None:
    """Who gives up at the prompt gets no traceback, and a terminal that shows what he types."""
    with Terminal(["verify"], environment) as terminal:
        terminal.wait_for("Key: ")
        terminal.type(typed)
        assert terminal.end() == (code, output)
        assert "Traceback" not in terminal.shown
        assert terminal.echoes()
    assert secret


def test_no_key_is_ever_shown(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """Whatever the verdict and the form, the key is in nothing that is printed."""
    live = registry.create("live").secret.reveal() or ""
    ended = run("create", "ended", "-q").stdout.strip()
    run("revoke", "ended")
    cases = ((live, "text"), (live, "json"), (ended, "json"), (TOKEN, "text"), ("odd key", "json"))
    for token, form in cases:
        done = run("verify", "-o", form, "--request", "GET /x", stdin=f"Bearer {token}\n")
        assert token not in done.stdout + done.stderr
    with (keystore.parent / "apikey-activity.db").open("rb") as file:
        assert ended.encode() not in file.read()
