"""API keys that manage others, and answers that are given again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from consoles import Bench
from metricshub_apikey.console.address import segment
from metricshub_apikey.errors import PolicyError
from metricshub_apikey.policy.file import parse

POLICY = """
[keys]
max_lifetime = "90d"
default_lifetime = "30d"
[roles.reader]
allow = ["GET /**"]
[roles.writer]
allow = ["POST /**"]
[roles.everything]
allow = ["* /**"]
[roles.manager]
manage = ["list", "create", "edit", "rotate", "revoke"]
may_grant = ["reader"]
[roles.lister]
manage = ["list"]
[roles.turner]
self_rotate = true
[rate_limit]
requests_per_minute = 60
burst_per_second = 50
"""


class Fleet:
    """A console for programs, and one key for each role."""

    def __init__(self, keystore: Path) -> None:
        """Make the keys as the person at the shell."""
        shell = Bench(keystore)
        shell.policy(POLICY)
        shell.sign_in()
        roles = ("reader", "writer", "everything", "manager", "lister", "turner")
        self.keys = {role: shell.create(role, roles=[role])["key"] for role in roles}
        self.keys["none"] = shell.create("none")["key"]
        self.shell = shell
        self.bench = Bench(keystore, how="none", page=False)

    def ask(
        self, role: str, method: str, alias: str = "", body: object = None, more: str = ""
    ) -> int:
        """Do something to a key as the holder of another one, and return the status."""
        path = f"/v1/keys/{segment(alias)}{more}" if alias else "/v1/keys"
        headers = [("if-match", "*")] if method == "PATCH" else []
        return self.bench.ask(method, path, body, token=self.keys[role], headers=headers).status


@pytest.fixture
def fleet(keystore: Path) -> Fleet:
    """Return a console for programs with its keys."""
    return Fleet(keystore)


def test_only_manage_lets_a_key_manage(fleet: Fleet) -> None:
    """`* /**` is about MetricsHub, and no role at all is none."""
    for role in ("reader", "everything", "none"):
        assert fleet.ask(role, "GET") == 403
        assert fleet.ask(role, "POST", body={"alias": "x", "roles": ["reader"]}) == 403
    assert fleet.ask("lister", "GET") == 200
    assert fleet.ask("lister", "POST", body={"alias": "x", "roles": ["reader"]}) == 403
    assert fleet.ask("lister", "DELETE", "reader") == 403


def test_a_managing_key_makes_what_it_may_grant(fleet: Fleet) -> None:
    """Neither another role nor none, nor a life beyond the policy's."""
    assert fleet.ask("manager", "POST", body={"alias": "a", "roles": ["reader"]}) == 201
    for roles in (["writer"], ["reader", "writer"], ["manager"], [], ["unknown"]):
        assert fleet.ask("manager", "POST", body={"alias": "b", "roles": roles}) == 403
    long = {"alias": "b", "roles": ["reader"], "expires_in": "91d"}
    assert fleet.ask("manager", "POST", body=long) == 422
    created_by = fleet.shell.ask("GET", f"/v1/keys/{segment('a')}").json["created_by"]
    assert created_by == "api_key:manager"


@pytest.mark.parametrize("other", ["writer", "none", "manager", "lister", "everything"])
def test_a_managing_key_has_no_power_over_other_keys(fleet: Fleet, other: str) -> None:
    """Not over those with another role, with none, over managers, nor over itself."""
    assert fleet.ask("manager", "DELETE", other) == 403
    assert fleet.ask("manager", "PATCH", other, {"roles": ["reader"]}) == 403
    assert fleet.ask("manager", "POST", other, {}, "/rotation") == 403


def test_a_managing_key_takes_no_last_role_away(fleet: Fleet) -> None:
    """And gives none that it may not grant."""
    assert fleet.ask("manager", "PATCH", "reader", {"roles": []}) == 403
    assert fleet.ask("manager", "PATCH", "reader", {"roles": ["reader", "everything"]}) == 403
    assert fleet.ask("manager", "PATCH", "reader", {"description": "x"}) == 200
    assert fleet.ask("manager", "POST", "reader", {}, "/rotation") == 201
    assert fleet.ask("manager", "DELETE", "reader", more="/rotation") == 204
    assert fleet.ask("manager", "DELETE", "reader") == 204


def test_the_old_key_of_a_rotation_is_revoked_too(fleet: Fleet) -> None:
    """As the page says before it revokes a key."""
    assert fleet.ask("manager", "POST", "reader", {}, "/rotation") == 201
    assert fleet.ask("manager", "DELETE", "reader") == 204
    assert fleet.shell.ask("GET", f"/v1/keys/{segment('reader.prev')}").status == 404


def test_a_key_that_has_ended_manages_nothing(fleet: Fleet) -> None:
    """Revoked or expired: 401 from the next request on."""
    assert fleet.ask("manager", "GET") == 200
    fleet.bench.passed += 31 * 86_400
    assert fleet.ask("manager", "GET") == 401
    fleet.bench.passed = 0
    assert fleet.shell.ask("DELETE", f"/v1/keys/{segment('manager')}").status == 204
    assert fleet.ask("manager", "GET") == 401


def test_a_key_that_is_suspended_manages_nothing(fleet: Fleet) -> None:
    """The page and the gateway refuse the same keys; once it is resumed it manages again."""
    manager = f"/v1/keys/{segment('manager')}"
    assert fleet.shell.ask("POST", f"{manager}/suspension").status == 204
    assert fleet.ask("manager", "GET") == 401
    assert fleet.shell.ask("DELETE", f"{manager}/suspension").status == 204
    assert fleet.ask("manager", "GET") == 200


def test_a_managing_key_keeps_its_networks(fleet: Fleet) -> None:
    """A role that is for another network manages nothing here."""
    here = POLICY.replace("[roles.lister]", '[roles.lister]\nnetworks = ["127.0.0.0/8"]')
    fleet.shell.policy(here)
    assert fleet.ask("lister", "GET") == 200
    fleet.shell.policy(here.replace("127.0.0.0", "10.0.0.0"))
    assert fleet.ask("lister", "GET") == 403


def test_a_managing_key_keeps_its_limit(fleet: Fleet) -> None:
    """The policy's, exactly."""
    assert [fleet.ask("lister", "GET") for _ in range(51)] == [200] * 50 + [429]


def test_a_key_rotates_itself(fleet: Fleet) -> None:
    """With an overlap, and as often as it likes to ask for the same answer."""
    turner = fleet.keys["turner"]
    path = "/v1/self/rotation"
    assert fleet.bench.ask("POST", path, {}, token=fleet.keys["manager"]).status == 403
    assert fleet.bench.ask("POST", path, {"overlap": "0"}, token=turner).status == 422
    again = [("idempotency-key", "one")]
    first = fleet.bench.ask("POST", path, {"overlap": "1h"}, token=turner, headers=again)
    assert first.status == 201
    second = fleet.bench.ask("POST", path, {"overlap": "1h"}, token=turner, headers=again)
    assert second.json["key"] == first.json["key"]
    assert fleet.bench.ask("POST", path, {}, token=turner).status in (409, 422)


def test_the_same_request_gets_the_same_answer(fleet: Fleet) -> None:
    """With the key; another body, or a key with no visible character, does not."""
    again = [("idempotency-key", "k1")]
    body = {"alias": "once"}
    first = fleet.shell.ask("POST", "/v1/keys", body, headers=again)
    second = fleet.shell.ask("POST", "/v1/keys", body, headers=again)
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["idempotent-replayed"] == "true"
    other = fleet.shell.ask("POST", "/v1/keys", {"alias": "two"}, headers=again)
    assert (other.status, other.json["code"]) == (422, "idempotency-mismatch")
    for value in ("", " ", "x" * 256, "ü"):
        headers = [("idempotency-key", value)]
        assert fleet.shell.ask("POST", "/v1/keys", body, headers=headers).status == 400


def test_an_answer_is_forgotten_after_ten_minutes(fleet: Fleet) -> None:
    """The request is a new one then."""
    again = [("idempotency-key", "k1")]
    assert fleet.shell.ask("POST", "/v1/keys", {"alias": "once"}, headers=again).status == 201
    fleet.shell.passed += 600
    assert fleet.shell.ask("POST", "/v1/keys", {"alias": "once"}, headers=again).status == 409


def test_a_failure_can_be_tried_again(fleet: Fleet) -> None:
    """Nothing came of it, so nothing is given again."""
    again = [("idempotency-key", "k1")]
    assert fleet.shell.ask("POST", "/v1/keys", {"alias": "reader"}, headers=again).status == 409
    assert fleet.shell.ask("DELETE", f"/v1/keys/{segment('reader')}").status == 204
    assert fleet.shell.ask("POST", "/v1/keys", {"alias": "reader"}, headers=again).status == 201


def test_an_answer_is_bound_to_who_got_it(fleet: Fleet) -> None:
    """Another caller's Idempotency-Key is another one; rights are checked anew."""
    again = [("idempotency-key", "k1")]
    body = {"alias": "once", "roles": ["reader"]}
    manager = fleet.keys["manager"]
    first = fleet.bench.ask("POST", "/v1/keys", body, headers=again, token=manager)
    assert first.status == 201
    assert (
        fleet.bench.ask("POST", "/v1/keys", body, headers=again, token=fleet.keys["lister"]).status
        == 403
    )
    fleet.shell.policy(POLICY.replace('may_grant = ["reader"]', 'may_grant = ["writer"]'))
    assert fleet.bench.ask("POST", "/v1/keys", body, headers=again, token=manager).status == 403


def test_the_same_request_twice_at_once_makes_one_key(fleet: Fleet) -> None:
    """One is worked on, the others are told so, or get its answer."""

    async def at_once() -> list[int]:
        headers = [("idempotency-key", "k1")]
        sent = [
            fleet.shell.send("POST", "/v1/keys", {"alias": "one"}, headers=headers)
            for _ in range(8)
        ]
        return [reply.status for reply in await asyncio.gather(*sent)]

    statuses = asyncio.run(at_once())
    assert statuses.count(201) == 1
    assert statuses.count(409) == 7


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('manage = ["delete"]', "expected one of"),
        ('may_grant = ["nothing"]', "no such role"),
        ('may_grant = ["manager"]', "manages keys"),
        ("self_rotate = 1", "true or false"),
    ],
)
def test_a_policy_that_grants_nonsense_is_refused(line: str, why: str) -> None:
    """With its line and key, before anything is granted."""
    with pytest.raises(PolicyError, match=why):
        parse(f"[roles.x]\n{line}\n[roles.manager]\nmanage = ['list']\n", "apikey.toml")
