"""The check: each thing that can be wrong with a keystore, brought about for real."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import builders
from builders import data_info, des3_bag, put, secret_bag
from clock import HERE, at
from conftest import COMMAND, Run, missing
from faults import run_traced
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity import database
from metricshub_apikey.activity.database import ActivityLog
from metricshub_apikey.errors import PolicyError
from metricshub_apikey.files import temporary
from metricshub_apikey.files.reading import identity
from metricshub_apikey.keys.expiry import after, to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.policy.rules import STOCK, Policy
from metricshub_apikey.review.checks import Finding, Report, Severity, Thresholds, examine
from places import VECTORS

NOW = datetime(2027, 6, 15, 12, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
OK, WARNING, CRITICAL, UNKNOWN = Severity
NO_USAGE, USUAL = Usage(), Thresholds()


def report_of(
    registry: ApiKeys,
    *,
    policy: Policy | PolicyError = STOCK,
    usage: Usage = NO_USAGE,
    now: datetime = NOW,
    thresholds: Thresholds = USUAL,
) -> Report:
    """Return what `check` finds."""
    return examine(
        registry._keystore, policy=policy, usage=usage, now=at(now), thresholds=thresholds
    )


def bad(report: Report) -> list[tuple[str, Severity, tuple[str, ...]]]:
    """Return what is not well: which check, how bad, and the keys it is about."""
    return [(one.check, one.severity, one.aliases) for one in report.findings if one.severity]


def found(report: Report, check: str) -> Finding:
    """Return the only finding of one check."""
    (finding,) = (one for one in report.findings if one.check == check)
    return finding


@pytest.fixture
def past(keystore: Path) -> ApiKeys:
    """Return the test's API keys, as of `NOW`."""
    return ApiKeys(Keystore(keystore), clock=lambda: NOW)


def test_all_is_well(past: ApiKeys, keystore: Path) -> None:
    """A keystore with a key without an end has nothing to complain of, and is not changed."""
    past.create("ci")
    before = identity(keystore.stat())
    report = report_of(past)
    assert (report.severity, bad(report)) == (OK, [])
    assert [one.check for one in report.findings] == [
        "opens", "directory", "mode", "entries", "expiry",
    ]  # fmt: skip
    assert found(report, "opens").sentence == "The keystore opens: 1 entries, 1 of them API keys."
    assert identity(keystore.stat()) == before


@pytest.mark.parametrize(
    ("left", "severity"),
    [
        (timedelta(), CRITICAL),
        (SECOND, CRITICAL),
        (7 * DAY, CRITICAL),
        (7 * DAY + SECOND, WARNING),
        (30 * DAY, WARNING),
        (30 * DAY + SECOND, OK),
    ],
)
def test_expiries(past: ApiKeys, left: timedelta, severity: Severity) -> None:
    """A key that is about to expire is critical, soon a warning, and a second later neither."""
    past.create("ci", expires_on=after(at(NOW), 60 * DAY))
    report = report_of(past, now=NOW + 60 * DAY - left)
    check = "expired" if not left else "expiring" if severity else "expiry"
    assert found(report, check).severity == severity
    assert report.severity == severity


@pytest.mark.parametrize(
    ("warn", "critical", "severity"),
    [(10, 0, WARNING), (9, 0, OK), (0, 10, CRITICAL), (0, 0, OK), (9, 12, CRITICAL)],
)
def test_thresholds(past: ApiKeys, warn: int, critical: int, severity: Severity) -> None:
    """The user says what is near; the critical one counts even where it is the larger one."""
    past.create("ci", expires_on=after(at(NOW), 10 * DAY))
    assert report_of(past, thresholds=Thresholds(warn * DAY, critical * DAY)).severity == severity


def test_expired_and_expiring_keys_are_named(past: ApiKeys) -> None:
    """Each group of keys is one finding with their aliases; of many, a few are named."""
    past.create("soon", expires_on=after(at(NOW), 20 * DAY))
    past.create("very-soon", expires_on=after(at(NOW), 3 * DAY))
    for number in range(7):
        past.create(f"dead-{number}", expires_on=after(at(NOW), DAY))
    report = report_of(past, now=NOW + DAY)
    dead = tuple(f"dead-{number}" for number in range(7))
    assert bad(report) == [
        ("expired", CRITICAL, dead),
        ("expiring", CRITICAL, ("very-soon",)),
        ("expiring", WARNING, ("soon",)),
    ]
    assert found(report, "expired").sentence == (
        "dead-0, dead-1, dead-2, dead-3, dead-4 and 2 more: expired."
    )


def test_the_old_key_of_a_rotation_may_end(past: ApiKeys) -> None:
    """It is meant to expire: neither its last days nor its end are a cause for alarm."""
    past.create("ci")
    past.rotate("ci", overlap=3 * DAY)
    assert bad(report_of(past)) == []
    report = report_of(past, now=NOW + 3 * DAY)
    assert bad(report) == []
    assert found(report, "rotated").aliases == ("ci.prev",)


def test_unreadable_entries(past: ApiKeys, keystore: Path) -> None:
    """What a stock server stumbles over is critical, and no other finding is about it."""
    past.create("ci")
    put(keystore, "hand-made", b"key__2027-12-31")
    put(keystore, "bytes", b"\xff\xfe")
    policy = Policy(path="apikey.toml", require_expiry=True)
    report = report_of(past, policy=policy)
    assert bad(report) == [
        ("entries", CRITICAL, ("hand-made", "bytes")),
        ("policy", WARNING, ("ci",)),
    ]
    assert "a stock server refuses every key after it" in found(report, "entries").sentence


def test_a_foreign_password(tmp_path: Path) -> None:
    """An entry that somebody encrypted with another password is unreadable."""
    file = tmp_path / "store.p12"
    bag = secret_bag("api_key:theirs", b"key", password="another")
    file.write_bytes(builders.keystore(data_info(bag)))
    file.chmod(0o600)
    report = report_of(ApiKeys(Keystore(file, builders.PASSWORDS)))
    assert bad(report) == [("entries", CRITICAL, ("theirs",))]


def test_duplicates_after_folding(tmp_path: Path) -> None:
    """Entries that Java takes for one are a warning: one of them hides the others."""
    file = tmp_path / "store.p12"
    bags = [secret_bag(f"api_key:{alias}", b"key") for alias in ("CI", "web", "ci")]
    file.write_bytes(builders.keystore(data_info(*bags)))
    file.chmod(0o600)
    report = report_of(ApiKeys(Keystore(file, builders.PASSWORDS)))
    assert bad(report) == [("duplicates", WARNING, ("ci",))]
    assert found(report, "duplicates").sentence == "ci: stored several times; the last one counts."


def test_unused_keys(past: ApiKeys, keystore: Path) -> None:
    """A key is idle if its last recorded use is old, or if it has none since long before."""
    log = ActivityLog(database.path_beside(str(keystore)))
    keys = {alias: past.create(alias) for alias in ("busy", "idle", "never")}
    now = NOW + 200 * DAY
    past._clock = lambda: now - DAY
    past.create("new")
    for alias, used in (("busy", now - 89 * DAY), ("idle", now - 91 * DAY)):
        log.record_uses({fingerprint(keys[alias].secret.reveal() or ""): (alias, used)})
    usage = Usage(log.last_uses(), log.recording_since())
    assert bad(report_of(past, usage=usage, now=now)) == [("unused", WARNING, ("idle", "never"))]
    assert bad(report_of(past, usage=usage, now=now - 2 * DAY)) == []


def test_where_uses_are_not_recorded_nothing_is_unused(past: ApiKeys) -> None:
    """What nobody recorded is unknown, so it is no finding at all."""
    past.create("ci")
    assert "unused" not in [one.check for one in report_of(past, now=NOW + 900 * DAY).findings]


def test_policy_breaches(past: ApiKeys) -> None:
    """Keys that break a rule are a warning, keys that keep all are named with the file."""
    past.create("ci")
    broken = Policy(path="apikey.toml", require_role=True)
    assert bad(report_of(past, policy=broken)) == [("policy", WARNING, ("ci",))]
    kept = Policy(path="apikey.toml")
    assert found(report_of(past, policy=kept), "policy").sentence == "Every key keeps apikey.toml."
    unusable = PolicyError("apikey.toml, line 1: this is not TOML.", hint="Look at it.")
    assert found(report_of(past, policy=unusable), "policy") == (
        "policy", CRITICAL, unusable.message, unusable.hint, (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "severity", "who"),
    [
        (0o600, OK, "."),
        (0o640, OK, "."),
        (0o400, OK, "."),
        (0o660, CRITICAL, ": its group may change it."),
        (0o644, CRITICAL, ": others may read or change it."),
        (0o602, CRITICAL, ": others may read or change it."),
    ],
)
def test_modes(past: ApiKeys, keystore: Path, mode: int, severity: Severity, who: str) -> None:
    """Only the mode protects the file: others need no right, and its group may only read."""
    past.create("ci")
    keystore.chmod(mode)
    finding = found(report_of(past), "mode")
    assert (finding.severity, finding.sentence) == (severity, f"The file has mode {mode:04o}{who}")


def test_a_directory_for_all(past: ApiKeys, keystore: Path) -> None:
    """Where everybody may replace the file, its own mode protects nothing."""
    past.create("ci")
    keystore.parent.chmod(0o777)
    finding = found(report_of(past), "directory")
    assert finding.severity == CRITICAL
    assert finding.sentence == (
        f"{keystore} is not changed: everybody may replace files in its directory."
    )
    assert finding.hint == f"Take that right away: chmod o-w {keystore.parent}"


def test_a_killed_writer(
    past: ApiKeys, keystore: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """What a writer leaves that was killed before the exchange is a warning."""
    if not shutil.which("strace"):
        missing("killing the command at a system call needs strace")
    past.create("ci")
    inject = "renameat2:signal=KILL:when=1"
    run_traced(["create", "x"], log=tmp_path / "log", environment=environment, inject=inject)
    report = report_of(past)
    assert [(check, severity) for check, severity, _ in bad(report)] == [("leftovers", WARNING)]
    pattern = rf"\.{keystore.name}\.[0-9a-f]{{16}}\.tmp: left by a writer that was killed\."
    assert re.fullmatch(pattern, found(report, "leftovers").sentence)


def test_leftovers_of_the_activity_database(past: ApiKeys, keystore: Path) -> None:
    """The database beside the keystore is made in the same way."""
    past.create("ci")
    path = temporary.new_name(database.path_beside(str(keystore)), os.urandom)
    Path(path).touch()
    Path(f"{path}-journal").touch()
    assert os.path.basename(path) in found(report_of(past), "leftovers").sentence


@pytest.mark.parametrize(
    ("vector", "sentences"),
    [
        ("jdk17.0.15", []),
        ("jdk21.0.8", []),
        ("jdk11.0.13", ["The file's MAC is that of old Java versions; the next change renews it."]),
        (
            "jdk11.0.5",
            [
                "mcp-openai, mcp-claude, ünï-😀: encrypted as old Java versions did.",
                "The file's MAC is that of old Java versions; the next change renews it.",
            ],
        ),
        (
            "jdk17.0.15-sha512-aes256",
            ["mcp-openai, mcp-claude, ünï-😀: encrypted as old Java versions did."],
        ),
        (
            "legacy-2021",
            ["The file's MAC is that of old Java versions; the next change renews it."],
        ),
    ],
)
def test_old_algorithms(keystore: Path, vector: str, sentences: list[str]) -> None:
    """What old Java versions wrote, or few iterations, is told; nothing must be done at once."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / f"{vector}.p12", keystore)
    report = report_of(ApiKeys(Keystore(keystore)))
    old = [one for one in report.findings if one.check == "algorithms"]
    assert [one.sentence for one in old] == sentences
    assert {one.severity for one in old} <= {OK}


def test_an_algorithm_that_nobody_knows(tmp_path: Path) -> None:
    """An entry that cannot be decrypted is unreadable, not old."""
    file = tmp_path / "store.p12"
    odd = secret_bag("api_key:odd", b"key", algorithm=builders.pbe_3des(scheme=builders.PRIVATE))
    file.write_bytes(builders.keystore(data_info(odd, des3_bag("api_key:old", b"key"))))
    report = report_of(ApiKeys(Keystore(file, builders.PASSWORDS)))
    assert found(report, "entries").aliases == ("odd",)
    assert found(report, "algorithms").aliases == ("old",)


# The command


def test_exit_codes(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """0 is well, 1 a warning, 2 critical, 3 could not be checked; nothing is changed."""
    assert run("check").returncode == 3
    assert not keystore.parent.exists()
    registry.create("ci", expires_on=to_local(datetime.now(UTC) + 10 * DAY, HERE))
    done = run("check", "--warn", "9d")
    assert (done.returncode, done.stderr) == (0, "")
    assert run("check").returncode == 1
    assert run("check", "--critical", "11d").returncode == 2
    assert sorted(os.listdir(keystore.parent)) == [
        f".{keystore.name}.lock",
        keystore.name,
    ]


def test_a_pipe(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """Without a terminal each finding is one line, however long, with its hint below."""
    registry.create("ci")
    keystore.chmod(0o666)
    aliases = [f"{'x' * 90}-{number}" for number in range(3)]
    for alias in aliases:
        put(keystore, alias, b"key__never")
    assert run("check", "--timezone", "UTC").stdout.splitlines() == [
        "ok        The keystore opens: 4 entries, 4 of them API keys.",
        "ok        No other user can replace the file.",
        "critical  The file has mode 0666: others may read or change it.",
        "          Take those rights away: apikey check --fix",
        *_folded(f"critical  {', '.join(aliases)} cannot be read: a stock server refuses"),
        (
            "          Mend an expiry written by hand: apikey check --fix; "
            f"else revoke: apikey revoke -- {' '.join(aliases)}"
        ),
        "ok        No key has expired or will soon.",
        "ok        Expiries are read in UTC, which --timezone names.",
        "",
        "In all: 2 critical, 4 ok.",
    ]


def _folded(line: str) -> list[str]:
    """Return a line of 331 characters that is folded at 250."""
    whole = f"{line} every key after it."
    head = whole[: whole.rindex(" ", 0, 251)]
    return [head, " " * 10 + whole[len(head) + 1 :]]


def terminal(environment: dict[str, str], *arguments: str, columns: int = 80) -> tuple[int, str]:
    """Return the exit code of the command, and what a terminal of that many columns gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**environment, "TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, *arguments], env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # what Linux says at the end
            pass
        finally:
            os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_a_terminal(environment: dict[str, str], registry: ApiKeys, keystore: Path) -> None:
    """On a terminal the marks are coloured, and no line is wider, but a command to be copied."""
    registry.create("ci")
    keystore.chmod(0o644)
    put(keystore, "long-" * 20, b"key__never")
    code, shown = terminal(environment, "check")
    assert code == 2
    assert "\x1b[32mok " in shown
    assert "\x1b[31mcritical\x1b[0m" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert all(" -m metricshub_apikey " in line for line in lines if len(line) > 80)
    assert any(line.endswith(f" revoke -- {'long-' * 20}") for line in lines)
    assert "long-" * 20 in "".join(line[10:] for line in lines)
    _, plain = terminal({**environment, "NO_COLOR": "1"}, "check")
    assert "\x1b" not in plain


def test_json(run: Run, keystore: Path) -> None:
    """Scripts get every finding with a stable name, and the worst severity of all."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15.p12", keystore)
    keystore.chmod(0o600)
    done = run("check", "-o", "json")
    assert (done.returncode, done.stderr) == (2, "")
    document: dict[str, Any] = json.loads(done.stdout)
    assert list(document) == ["keystore", "severity", "findings", "fixed", "notes"]
    assert (document["severity"], document["fixed"]) == ("critical", [])
    assert document["findings"][-1]["check"] == "time"
    assert document["findings"][-2] == {
        "check": "expired",
        "severity": "critical",
        "sentence": "ünï-😀: expired.",
        "hint": "Replace: apikey rotate -- 'ünï-😀'; or revoke: apikey revoke -- 'ünï-😀'",
        "aliases": ["ünï-😀"],
    }


WHOLE = (VECTORS / "jdk17.0.15.p12").read_bytes()
DAMAGED = "cannot be opened: the password is wrong or the file is damaged."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (WHOLE[:700], DAMAGED),
        (b"", DAMAGED),
        (WHOLE[:-1] + b"\xff", DAMAGED),
        (b"hello", "is not a PKCS#12 keystore."),
        (
            (VECTORS / "jdk17.0.15-mac-none.p12").read_bytes(),
            "has no MAC: its entries may be forged.",
        ),
    ],
    ids=["truncated", "empty", "damaged", "a text", "without MAC"],
)
def test_a_file_that_does_not_open(keystore: Path, content: bytes, sentence: str) -> None:
    """That is critical: no server can use it either."""
    keystore.parent.mkdir()
    keystore.write_bytes(content)
    report = report_of(ApiKeys(Keystore(keystore)))
    assert bad(report) == [("opens", CRITICAL, ())]
    assert report.findings[0].sentence == f"{keystore} {sentence}"


def test_a_wrong_password(run: Run, registry: ApiKeys, tmp_path: Path) -> None:
    """A password that does not fit is critical; one that cannot be read hinders the check."""
    registry.create("ci")
    password = tmp_path / "password"
    password.write_text("another\n")
    password.chmod(0o600)
    done = run("check", "-o", "nagios", "--password-file", password)
    assert (done.returncode, done.stdout.startswith("APIKEY CRITICAL - ")) == (2, True)
    done = run("check", "-o", "nagios", "--password-file", tmp_path / "none")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == (
        f"APIKEY UNKNOWN - {tmp_path / 'none'} cannot be read: No such file or directory."
        " | keys=0 warning=0 critical=0\n"
    )


def test_a_missing_keystore(run: Run, keystore: Path) -> None:
    """Where there is nothing to check, every form says so, and the exit code is 3."""
    done = run("check")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"unknown  {keystore} does not exist.\n"
    done = run("check", "-o", "prometheus")
    assert (done.returncode, done.stderr) == (3, "")
    assert "\napikey_check_severity 3\n" in done.stdout


@pytest.mark.parametrize("locked", ["file", "directory"])
def test_no_right_to_read(run: Run, public: Path, ordinary: list[str], locked: str) -> None:
    """An ordinary user is told whose right it is; that is no verdict about the keystore."""
    folder = public / "security"
    folder.mkdir(0o755)
    folder.chmod(0o755)
    keystore = folder / "store.p12"
    ApiKeys(Keystore(keystore)).create("ci")
    if locked == "directory":
        folder.chmod(0o700)
    if os.geteuid():
        (keystore if locked == "file" else folder).chmod(0)
    done = run("check", "-o", "json", "--keystore", keystore, command=ordinary)
    folder.chmod(0o755)
    assert done.returncode == 3, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["check"], finding["severity"]) == ("opens", "unknown")
    assert finding["sentence"] == f"Access denied to {keystore}."
    assert finding["hint"]


def test_a_damaged_activity_database(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """It is a warning, for the keys themselves are well."""
    registry.create("ci")
    path = Path(database.path_beside(str(keystore)))
    path.write_bytes(b"x" * 4096)
    done = run("check", "-o", "nagios")
    assert (done.returncode, done.stdout) == (
        0,
        "APIKEY OK - 1 API keys are well. | keys=1 warning=0 critical=0\n",
    )
    assert "Warning: " in done.stderr
    assert "When keys were last used is unknown." in done.stderr


def test_unused_keys_of_the_command(run: Run, registry: ApiKeys, keystore: Path) -> None:
    """The command reads the uses that were recorded beside the keystore."""
    registry._clock = lambda: NOW - 1000 * DAY
    key = registry.create("ci").secret.reveal() or ""
    log = ActivityLog(database.path_beside(str(keystore)))
    log.record_uses({fingerprint(key): ("ci", NOW - 990 * DAY)})
    done = run("check")
    assert done.returncode == 1
    assert "warning  ci: not used for 90 days." in done.stdout


@pytest.mark.parametrize("option", ["--warn", "--critical"])
def test_thresholds_that_are_no_length(run: Run, option: str) -> None:
    """That is wrong usage."""
    done = run("check", option, "soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'soon' is not a length of time" in done.stderr
