"""`apikey rotate` as its users meet it: at a terminal, in scripts, from cron."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clock import HERE
from conftest import COMMAND, Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import ActivityLog, path_beside
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.registry.api_keys import utc_now
from stock import Stock

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
STORE_IT = "Please store this key securely, as it will not be shown again.\n"
NOT_DUE = "Note: The API key 'web' does not expire within that time; nothing was changed.\n"

Done = subprocess.CompletedProcess[str]


def check(done: Done, code: int, stdout: str = "", stderr: str = "") -> None:
    """Compare everything that a command did for its caller."""
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


def document(text: str) -> dict[str, Any]:
    """Return the one JSON document in *text*."""
    found: dict[str, Any] = json.loads(text)
    return found


def keys(registry: ApiKeys) -> dict[str, str | None]:
    """Return the secrets by alias, in their order."""
    return {key.alias: key.secret.reveal() for key in registry.list()}


def make(registry: ApiKeys, alias: str = "web", days: int | None = 90) -> str:
    """Create a key that lives for so many days, and return its secret."""
    ends = None if days is None else datetime.now() + timedelta(days=days)
    return registry.create(alias, expires_on=ends).secret.reveal() or ""


def names(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(os.listdir(directory))


# What it says


def test_what_it_says(run: Run, registry: ApiKeys, keystore: Path, stock: Stock) -> None:
    """The new key is handed out like a created one; a note says how long the old one works."""
    old = make(registry)
    done = run("rotate", "Web", "--overlap", "2d")
    found = re.fullmatch(
        rf"API key rotated for alias 'Web': ({UUID4}) \(Expires on {TIME}\)\n" + STORE_IT,
        done.stdout,
    )
    assert found
    assert done.returncode == 0
    assert re.fullmatch(rf"Note: The old key works until {TIME}, as 'web\.prev'\.\n", done.stderr)
    assert keys(registry) == {"web": found[1], "web.prev": old}
    assert stock.ask("find", keystore, found[1]) == ["accepted web"]
    assert stock.ask("find", keystore, old) == ["accepted web.prev"]


def test_no_overlap(run: Run, registry: ApiKeys) -> None:
    """With `--overlap 0` there is no old key to tell of."""
    make(registry, days=None)
    done = run("rotate", "web", "--overlap", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"API key rotated for alias 'web': {UUID4} \(No expiration\)\n" + STORE_IT, done.stdout
    )
    assert list(keys(registry)) == ["web"]


def test_quiet(run: Run, registry: ApiKeys) -> None:
    """`-q` prints the key alone."""
    make(registry)
    done = run("rotate", "web", "-q")
    assert done.returncode == 0
    assert done.stdout == f"{keys(registry)['web']}\n"


def test_out(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """`--out` puts the key into a new private file, and standard output says where it is."""
    make(registry)
    out = tmp_path / "key"
    done = run("rotate", "web", "--out", out)
    assert (out.read_text(), stat.S_IMODE(out.stat().st_mode)) == (
        f"{keys(registry)['web']}\n",
        0o600,
    )
    assert re.fullmatch(
        rf"API key rotated for alias 'web': written to {out} \(Expires on {TIME}\)\n", done.stdout
    )


def test_json(run: Run, registry: ApiKeys, keystore: Path, tmp_path: Path) -> None:
    """One document has the new key with its fields, and the old one without its secret."""
    old = make(registry)
    found = document(run("rotate", "web", "-o", "json").stdout)
    assert (found["rotated"], found["alias"], found["file"]) == (True, "web", None)
    assert found["key"] == keys(registry)["web"]
    assert (found["rotated_at"], found["keystore"]) == (None, str(keystore))
    assert found["old"]["alias"] == "web.prev"
    assert found["old"]["rotated_at"] == found["created_at"]
    assert "key" not in found["old"]
    assert old not in json.dumps(found)

    run("rotate", "web", "--finish")
    done = run("rotate", "web", "-o", "json", "--overlap", "0", "--out", tmp_path / "key")
    found = document(done.stdout)
    assert (found["key"], found["file"], found["old"]) == (None, str(tmp_path / "key"), None)
    found = document(run("rotate", "web", "-o", "json", "--if-expiring", "1d").stdout)
    assert (found["rotated"], found["alias"], found["key"]) == (False, "web", None)
    assert found["notes"] == [NOT_DUE.removeprefix("Note: ").removesuffix("\n")]


def test_another_expiry(run: Run, registry: ApiKeys) -> None:
    """`--expires-in` and `--expires-on` say how long the new key lives."""
    make(registry)
    assert run("rotate", "web", "--expires-on", "2999-12-31").returncode == 0
    assert registry.get("web").expires_on == datetime(2999, 12, 31, 23, 59, 59)
    run("rotate", "web", "--finish")
    assert run("rotate", "web", "--expires-in", "3d").returncode == 0
    assert registry.get("web").lifetime(HERE) == timedelta(days=3)


# Failures


def test_a_second_rotation(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """While the old key works another rotation is refused, with a hint, and nothing is changed."""
    make(registry)
    run("rotate", "web")
    before = keystore.read_bytes()
    done = run("rotate", "web")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: The API key 'web' has just been rotated: its old key works until {TIME}\.\n"
        "Hint: When no client uses the old key any more, end it: "
        "apikey rotate --finish -- web\n",
        done.stderr,
    )
    assert document(run("rotate", "web", "-o", "json").stderr)["error"]["code"] == (
        "rotation-pending"
    )
    assert keystore.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nobody"], 1, "No API key found with alias 'nobody'."),
        (["nobody", "--if-expiring", "1d"], 1, "No API key found with alias 'nobody'."),
        (["nobody", "--finish"], 1, "There is no old key of 'nobody' to remove."),
        (["web", "--overlap", "soon"], 2, "'soon' is not a length of time"),
        (["web", "--if-expiring", "-1d"], 2, "'-1d' is not a length of time"),
        (["web", "--expires-in", "1d", "--expires-on", "2999-01-01"], 2, "exclude each other."),
        (["web", "--expires-on", "2001-01-01"], 1, "must be in the future."),
        (["web", "--finish", "--overlap", "0"], 2, "--finish goes with no other option."),
        (["web", "--finish", "--out", "f"], 2, "--finish goes with no other option."),
        (["web", "-q", "-o", "json"], 2, "exclude each other."),
        (["a" * 126], 2, "more than 123 characters"),
        (["web", "site"], 2, "unexpected extra argument"),
    ],
)
def test_what_is_refused(
    run: Run,
    registry: ApiKeys,
    keystore: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """What cannot be done, or makes no sense, changes nothing."""
    make(registry)
    make(registry, "a" * 126)
    before = keystore.read_bytes()
    done = run("rotate", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert keystore.read_bytes() == before


def test_a_file_that_is_there(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """A key that is due is not rotated where its file would overwrite another one."""
    old = make(registry)
    out = tmp_path / "key"
    out.write_text("precious")
    done = run("rotate", "web", "--if-expiring", "100d", "--out", out)
    check(done, 1, stderr=f"Error: {out} exists already; it is not overwritten.\n")
    assert out.read_text() == "precious"
    assert keys(registry) == {"web": old}


@pytest.mark.parametrize("arguments", [[], ["nobody"], ["web"]])
def test_no_file_is_left_without_a_rotation(
    run: Run, registry: ApiKeys, tmp_path: Path, arguments: list[str]
) -> None:
    """Where a rotation is refused, no empty file waits for somebody to read it."""
    make(registry)
    run("rotate", "web")
    run("rotate", *arguments, "--out", tmp_path / "key")
    assert names(tmp_path) == ["security"]


def test_a_key_that_is_not_delivered(run: Run, registry: ApiKeys) -> None:
    """A new key that was not handed out takes no place, and is not spoken of."""
    old = make(registry)
    with Path("/dev/full").open("w") as full:
        done = run("rotate", "web", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The new API key of 'web' was not delivered: ")
    assert keys(registry) == {"web": old}
    assert run("rotate", "web", "-q").returncode == 0
    assert keys(registry)["web.prev"] == old


# Policy


def test_the_policy_counts(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """The rules are those for a new key; the error names the rule, the limit and the file."""
    make(registry)
    make(registry, "ever", days=None)
    policy = keystore.with_name("apikey.toml")
    policy.write_text(
        '[keys]\nmax_lifetime = "30d"\nlifetimes = ["7d", "30d"]\ndefault_lifetime = "7d"\n'
    )
    before = keystore.read_bytes()
    done = run("rotate", "web")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"Error: The key would live for 90 days; keys.max_lifetime in {policy} is 30d.\n"
    )
    done = run("rotate", "web", "--expires-in", "8d")
    assert "'8d' is not one of the choices of keys.lifetimes" in done.stderr
    assert keystore.read_bytes() == before
    assert run("rotate", "web", "--expires-in", "30d").returncode == 0
    assert run("rotate", "ever").returncode == 0
    assert registry.get("ever").lifetime(HERE) == timedelta(days=7)
    run("rotate", "ever", "--finish")
    policy.write_text("[keys]\nrequire_role = true\n")
    assert "keys.require_role" in run("rotate", "ever").stderr


def test_a_broken_policy(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """With rules that cannot be read there is no rotation, but `--finish` needs none."""
    make(registry)
    registry.rotate("web")
    keystore.with_name("apikey.toml").write_text("nonsense")
    before = keystore.read_bytes()
    done = run("rotate", "web", "-o", "json")
    assert document(done.stderr)["error"]["code"] == "policy-invalid"
    assert keystore.read_bytes() == before
    assert run("rotate", "web", "--finish").returncode == 0


# From cron


def test_the_cron_job(run: Run, registry: ApiKeys, keystore: Path, tmp_path: Path) -> None:
    """Run every day, it waits until the key is due, rotates it once, and waits again."""
    first = make(registry, days=20)
    out = tmp_path / "web.key"
    job = ["rotate", "web", "--if-expiring", "14d", "--out", str(out)]
    before = keystore.read_bytes()
    check(run(*job), 0, stderr=NOT_DUE)
    assert keystore.read_bytes() == before
    assert names(tmp_path) == ["security"], "and no file is left behind"

    job[3] = "20d"
    assert run(*job).returncode == 0
    second = out.read_text().strip()
    assert keys(registry) == {"web": second, "web.prev": first}

    job[3] = "14d"
    before = keystore.read_bytes()
    for _ in range(2):
        check(run(*job), 0, stderr=NOT_DUE)
    assert out.read_text().strip() == second, "the file of the last time is no obstacle"
    assert keystore.read_bytes() == before


def test_two_jobs_at_once(environment: dict[str, str], registry: ApiKeys, tmp_path: Path) -> None:
    """Of several jobs at the same moment one rotates; the others leave no file."""
    first = make(registry, days=1)
    jobs = [
        subprocess.Popen(
            [*COMMAND, "rotate", "web", "--if-expiring", "14d", "--out", str(tmp_path / str(one))],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in range(4)
    ]
    said = [job.communicate()[1] for job in jobs]
    assert sorted(job.returncode for job in jobs) == [0, 1, 1, 1]
    assert sum("has just been rotated" in one for one in said) == 3
    (winner,) = (tmp_path / str(one) for one in range(4) if (tmp_path / str(one)).exists())
    assert keys(registry) == {"web": winner.read_text().strip(), "web.prev": first}


def test_not_due_in_quiet(run: Run, registry: ApiKeys) -> None:
    """With `-q` nothing is said where there is no new key: cron sends no mail."""
    make(registry)
    check(run("rotate", "web", "-q", "--if-expiring", "1d"), 0)


# The end of the overlap


def test_finish_warns_of_an_unused_key(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """Whoever ends the old key hears that nobody was seen using the new one."""
    make(registry)
    run("rotate", "web")
    check(
        run("rotate", "web", "--finish"),
        0,
        "The old key 'web.prev' has been removed.\n",
        "Warning: No use of the new key is recorded for 'web'.\n",
    )
    new = run("rotate", "web", "-q").stdout.strip()
    log = ActivityLog(path_beside(str(keystore)))
    log.record_uses({fingerprint(new): ("web", utc_now())})
    check(run("rotate", "WEB", "--finish"), 0, "The old key 'web.prev' has been removed.\n")
    assert keys(registry) == {"web": new}
    check(
        run("rotate", "web", "--finish"),
        1,
        stderr="Error: There is no old key of 'web' to remove.\n",
    )


def test_finish_for_scripts(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """`-q` prints nothing, JSON names what is gone, with the warning among the notes."""
    make(registry)
    run("rotate", "web")
    done = run("rotate", "web", "--finish", "-o", "json")
    assert document(done.stdout) == {
        "keystore": str(keystore),
        "finished": "web.prev",
        "notes": ["No use of the new key is recorded for 'web'."],
    }
    run("rotate", "web")
    done = run("rotate", "web", "--finish", "-q")
    assert (done.returncode, done.stdout) == (0, "")
    assert document(run("rotate", "web", "--finish", "-o", "json").stderr)["error"]["code"] == (
        "not-rotated"
    )


def test_revoking_in_the_middle(run: Run, registry: ApiKeys) -> None:
    """The old key goes along, and a note names it; with --keep-previous it works on."""
    make(registry)
    run("rotate", "web")
    said = "API key 'web' has been revoked.\n"
    check(run("revoke", "web", "--keep-previous"), 0, said)
    check(run("rotate", "web", "--finish"), 0, "The old key 'web.prev' has been removed.\n")
    run("create", "web")
    run("rotate", "web")
    check(run("revoke", "web"), 0, said, "Note: The old key 'web.prev' has been revoked, too.\n")
    assert run("list", "-q").stdout == ""


def test_revoking_in_bulk_takes_old_keys_along(run: Run, registry: ApiKeys) -> None:
    """Whichever way a key is chosen: an incident must end both."""
    for chosen in (["--role", "reader"], ["--leaked", "-"]):
        run("create", "web", "-q")
        new = run("rotate", "web", "-q").stdout
        run("edit", "web", "--add-role", "reader")
        done = document(run("revoke", *chosen, "--yes", "-o", "json", stdin=new).stdout)
        assert (done["revoked"], done["also_revoked"]) == (["web"], ["web.prev"])
        assert registry.list() == ()
    run("create", "web", "--role", "reader")
    run("rotate", "web")
    run("edit", "web.prev", "--remove-role", "reader")
    run("revoke", "--role", "reader", "--yes", "--keep-previous")
    assert registry.aliases() == ("web.prev",)


def test_the_filters_of_list_choose_what_is_revoked(run: Run, registry: ApiKeys) -> None:
    """One word means the same in both commands, and several must all fit."""
    run("create", "a", "--label", "env=test", "--expires-in", "5d")
    run("create", "b", "--label", "env=test")
    filters = ("--label", "env=test", "--expiring-in", "30d")
    assert run("list", "-q", *filters).stdout == "a\n"
    check(run("revoke", "--yes", *filters), 0, "API key 'a' has been revoked.\n")
    assert registry.aliases() == ("b",)
    assert run("revoke", "--label", "=x", "--yes").returncode == 2


def test_the_log_of_a_key_knows_its_rotations(run: Run, registry: ApiKeys) -> None:
    """`log ALIAS` has the rotation and its end, although they were done to the old key."""
    make(registry)
    run("rotate", "web", "--overlap", "1d")
    run("rotate", "web", "--finish")
    events = document(run("log", "web", "-o", "json").stdout)["events"]
    assert [event["action"] for event in events] == ["rotate", "finish"]
    assert events[0]["details"].startswith("old key works until ")


def test_a_keystore_of_java(run: Run, keystore: Path, stock: Stock) -> None:
    """A key of the stock tool is rotated, and Java's own rewrite does not hide that from us."""
    keystore.parent.mkdir()
    stock.ask("new", keystore)
    stock.ask("create", keystore, "theirs", "their-key-1234")
    new = run("rotate", "theirs", "-q").stdout.strip()
    stock.ask("rewrite", keystore, keystore)
    assert run("rotate", "theirs").returncode == 1
    assert run("rotate", "theirs", "--finish").returncode == 0
    assert stock.ask("find", keystore, "their-key-1234") == ["unknown"]
    assert stock.ask("find", keystore, new) == ["accepted theirs"]
    assert len(ApiKeys(Keystore(keystore)).list()) == 1
