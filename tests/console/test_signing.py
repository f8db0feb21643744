"""Tickets, sessions, MetricsHub's users."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from consoles import ACTOR, Bench, add_user
from metricshub_apikey.keystore.keystore import Keystore

PASSWORD = "correct horse"


def test_a_ticket_opens_one_session(keystore: Path) -> None:
    """The second one who sends it gets nothing, nor does a guess."""
    bench = Bench(keystore)
    ticket = {"ticket": bench.console.sessions.new_ticket()}
    opened = bench.ask("POST", "/v1/sessions", ticket)
    assert opened.status == 201
    assert opened.json["rights"] == "rw"
    assert opened.json["actor"] == "root, link"
    assert opened.json["expires_at"] == "2027-03-01T12:15:00Z"
    again = bench.ask("POST", "/v1/sessions", ticket)
    assert (again.status, again.json["code"]) == (401, "ticket-invalid")
    assert bench.ask("POST", "/v1/sessions", {"ticket": "x" * 43}).status == 401


def test_a_ticket_lives_for_a_minute(keystore: Path) -> None:
    """A link in a scrollback opens nothing."""
    bench = Bench(keystore)
    ticket = {"ticket": bench.console.sessions.new_ticket()}
    bench.passed = 60.0
    assert bench.ask("POST", "/v1/sessions", ticket).status == 401


def test_tickets_are_long_and_different(keystore: Path) -> None:
    """256 bits each."""
    sessions = Bench(keystore).console.sessions
    tickets = {sessions.new_ticket() for _ in range(50)}
    assert len(tickets) == 50
    assert {len(ticket) for ticket in tickets} == {43}


def test_a_session_ends_when_it_is_not_used(keystore: Path) -> None:
    """After 15 minutes; what the page asks by itself is no use."""
    bench = Bench(keystore)
    bench.sign_in()
    for _ in range(3):
        bench.passed += 800
        assert bench.ask("GET", "/v1/usage").status == 200
    reply = bench.ask("GET", "/v1/usage")
    assert reply.headers["x-apikey-session"] == "900"
    bench.passed += 600
    background = [("x-apikey-background", "1")]
    reply = bench.ask("GET", "/v1/usage", headers=background)
    assert reply.headers["x-apikey-session"] == "300"
    bench.passed += 300
    assert bench.ask("GET", "/v1/usage", headers=background).status == 401


def test_a_session_ends_after_eight_hours(keystore: Path) -> None:
    """However busy it is."""
    bench = Bench(keystore)
    bench.sign_in()
    for _ in range(32):
        bench.passed += 895
        assert bench.ask("GET", "/v1/usage").status == 200
    bench.passed = 8 * 3600
    assert bench.ask("GET", "/v1/usage").status == 401


def test_signing_out_ends_the_session(keystore: Path) -> None:
    """The token is worth nothing then."""
    bench = Bench(keystore)
    bench.sign_in()
    assert bench.ask("DELETE", "/v1/sessions/current").status == 204
    assert bench.ask("GET", "/v1/keys").status == 401


def sign_in(bench: Bench, user: str, password: str, address: str = "") -> int:
    """Try to sign in, and return the status; with the token in the bench where it went well."""
    headers = [("x-forwarded-for", address)] if address else []
    body = {"user": user, "password": password}
    reply = bench.ask("POST", "/v1/sessions", body, headers=headers)
    if reply.status == 201:
        bench.token = reply.json["token"]
    return reply.status


@pytest.fixture
def team(keystore: Path) -> Bench:
    """Return a console for MetricsHub's users: alice manages, otto looks."""
    add_user(keystore, "alice", PASSWORD)
    add_user(keystore, "otto", PASSWORD, "ro")
    return Bench(keystore, how="users")


def test_a_user_who_may_write_manages(team: Bench) -> None:
    """Names fold as aliases do; the log says who it was."""
    assert sign_in(team, "ALICE", PASSWORD) == 201
    assert team.create("ci")["created_by"] == "user:alice"
    assert team.ask("GET", "/v1/events").json["events"][0]["actor"] == "user:alice"


def test_a_user_who_may_read_looks(team: Bench) -> None:
    """All lists, no change."""
    assert sign_in(team, "otto", PASSWORD) == 201
    assert team.ask("GET", "/v1/keys").status == 200
    reply = team.ask("POST", "/v1/keys", {"alias": "ci"})
    assert (reply.status, reply.json["code"]) == (403, "read-only")
    assert team.ask("DELETE", "/v1/keys/ci").status == 403


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("alice", ""),
        ("", PASSWORD),
        ("alice", PASSWORD + "\0x"),
    ],
)
def test_a_wrong_password_lets_nobody_in(team: Bench, user: str, password: str) -> None:
    """The same answer for a user that is not there."""
    body = {"user": user, "password": password}
    reply = team.ask("POST", "/v1/sessions", body)
    assert (reply.status, reply.json["code"]) == (401, "wrong-password")


def test_bytes_beyond_the_72nd_are_not_ignored(keystore: Path) -> None:
    """What bcrypt sees is looked at: it takes 72 bytes, so more is wrong."""
    add_user(keystore, "long", "ä" * 36)
    bench = Bench(keystore, how="users")
    assert sign_in(bench, "long", "ä" * 36) == 201
    assert sign_in(bench, "long", "ä" * 36 + "x") == 401


def test_guessing_is_slowed_down(team: Bench) -> None:
    """Five wrong passwords a minute for a user, right ones do not count; then 429 for all."""
    for _ in range(7):
        assert sign_in(team, "alice", PASSWORD) == 201
    for _ in range(5):
        assert sign_in(team, "alice", "wrong") == 401
    assert sign_in(team, "alice", PASSWORD) == 429
    assert sign_in(team, "otto", PASSWORD) == 201
    team.passed += 61
    assert sign_in(team, "alice", PASSWORD) == 201


def test_one_address_is_slowed_down(team: Bench) -> None:
    """Twenty wrong passwords a minute, whoever they are for."""
    for number in range(20):
        assert sign_in(team, f"user{number}", "x") == 401
    assert sign_in(team, "alice", PASSWORD) == 429


def test_guesses_side_by_side_are_counted(team: Bench) -> None:
    """Sending all of them at once gives no more than five."""

    async def at_once() -> list[int]:
        body = {"user": "alice", "password": "wrong"}
        sent = [team.send("POST", "/v1/sessions", body) for _ in range(30)]
        return [reply.status for reply in await asyncio.gather(*sent)]

    assert asyncio.run(at_once()).count(401) == 5


def test_another_password_ends_the_sessions(team: Bench) -> None:
    """Any change of the user's entry does, and its removal; the other users stay."""
    sign_in(team, "alice", PASSWORD)
    alice = team.token
    sign_in(team, "otto", PASSWORD)
    assert team.ask("GET", "/v1/keys", token=alice).status == 200
    add_user(team.keystore, "alice", "another")
    assert team.ask("GET", "/v1/keys", token=alice).status == 401
    assert team.ask("GET", "/v1/keys").status == 200
    Keystore(team.keystore).update(lambda store: store.remove(store.find("user:otto")))
    assert team.ask("GET", "/v1/keys").status == 401


def test_each_way_in_is_only_open_where_it_was_asked_for(team: Bench, keystore: Path) -> None:
    """No ticket with --users, no password with a link, neither with --api-only."""
    ticket = team.console.sessions.new_ticket()
    assert team.ask("POST", "/v1/sessions", {"ticket": ticket}).status == 401
    for how in ("link", "none"):
        other = Bench(keystore, how=how)
        assert sign_in(other, "alice", PASSWORD) == 401
    bare = Bench(keystore, how="none")
    ticket = bare.console.sessions.new_ticket()
    assert bare.ask("POST", "/v1/sessions", {"ticket": ticket}).status == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ticket": 1},
        {"ticket": "x", "user": "y"},
        {"user": "x"},
        {"user": 1, "password": "x"},
        {"password": "x"},
        {"ticket": None},
    ],
)
def test_a_sign_in_says_what_it_lacks(keystore: Path, body: object) -> None:
    """422, never 500."""
    assert Bench(keystore).ask("POST", "/v1/sessions", body).status == 422


def test_the_actor_of_a_link_is_the_person_at_the_shell(keystore: Path) -> None:
    """As for the commands."""
    bench = Bench(keystore)
    bench.sign_in()
    assert bench.create("ci")["created_by"] == ACTOR
