"""What scripts and monitoring get: Prometheus, Nagios, CSV and JSON, read by their own parsers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from builders import examples
from clock import HERE, at
from conftest import Run
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import Event
from metricshub_apikey.cli.commands.check import Checked
from metricshub_apikey.cli.commands.log import Logged
from metricshub_apikey.cli.commands.policy import Breaches
from metricshub_apikey.cli.commands.scan import Found, Leaks, leak_line
from metricshub_apikey.cli.output import Form, Output
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import parse_stored
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.review.checks import Finding, Report, Severity
from metricshub_apikey.review.leaks import Leak
from metricshub_apikey.review.monitoring import nagios_line
from metricshub_apikey.secret import Secret

NOW = datetime(2027, 6, 15, 12)
FIRST = datetime(2027, 6, 15, 12, tzinfo=UTC)
ODD = 'a "b" c\\d\ne\\nf\tünï-😀\u202e{},='
"""An alias with all that Prometheus must escape, and what a terminal must not get."""

ALIASES = st.text(max_size=20) | st.sampled_from(["\\", "\\n", "\n", '"', '\\"', ""])


def key(alias: str, expires_on: datetime | None = None, **fields: str | None) -> ApiKey:
    """Return a key that was made long ago."""
    secret = Secret(f"the-key-of-{alias}")
    return ApiKey(alias, secret, expires_on, 0)._replace(**fields)  # type: ignore[arg-type]


def output(form: Form = Form.TEXT) -> Output:
    """Return where results go."""
    return Output(form, color=False)


def prometheus_lines(found: Report) -> list[str]:
    """Return what `check -o prometheus` prints of a report."""
    return Checked(found, keystore="/security/store.p12", now=at(NOW)).prometheus()


def report(*keys: ApiKey, severity: Severity = Severity.OK, usage: Usage | None = None) -> Report:
    """Return the report of a check that found one thing."""
    found = Finding("opens", severity, "The keystore opens.")
    return Report((found,), keys, usage or Usage())


Samples = dict[str, dict[str, float]]


def samples(lines: Iterable[str]) -> Samples:
    """Return the values of each metric by its label, as Prometheus reads them."""
    found: Samples = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            label = "".join(sample.labels.values())
            assert label not in found.setdefault(sample.name, {})
            found[sample.name][label] = sample.value
    return found


def test_prometheus(zone: Callable[[str], None]) -> None:
    """Every key has its expiry as a timestamp, and there are totals by state and severity."""
    zone("Europe/Paris")
    keys = (
        key("forever"),
        key("ends", datetime(2027, 12, 31, 23, 59, 59)),
        key("over", NOW),
        key("broken", unreadable="it is not UTF-8"),
    )
    usage = Usage({fingerprint("the-key-of-ends"): FIRST}, FIRST)
    found = samples(prometheus_lines(report(*keys, severity=Severity.WARNING, usage=usage)))
    assert found == {
        "apikey_check_severity": {"": 1},
        "apikey_findings": {"ok": 0, "warning": 1, "critical": 0, "unknown": 0},
        "apikey_keys": {"valid": 2, "expired": 1, "unreadable": 1},
        "apikey_expiry_timestamp_seconds": {
            "ends": datetime(2027, 12, 31, 22, 59, 59, tzinfo=UTC).timestamp(),
            "over": datetime(2027, 6, 15, 10, tzinfo=UTC).timestamp(),
        },
        "apikey_last_used_timestamp_seconds": {"ends": FIRST.timestamp()},
    }


def test_prometheus_without_keys() -> None:
    """Where the keystore could not be read, the severity says so, and no metric is empty."""
    lines = list(prometheus_lines(report(severity=Severity.UNKNOWN)))
    found = samples(iter(lines))
    assert found["apikey_check_severity"] == {"": 3}
    assert set(found) == {"apikey_check_severity", "apikey_findings", "apikey_keys"}
    assert sum(line.startswith("# TYPE") for line in lines) == 3


def test_prometheus_with_an_odd_alias() -> None:
    """Quotes, backslashes and line feeds are what they were; what is invisible is written out."""
    lines = list(prometheus_lines(report(key(ODD, NOW))))
    found = samples(iter(lines))["apikey_expiry_timestamp_seconds"]
    assert list(found) == [ODD.replace("\t", "\\t").replace("\u202e", "\\u202e")]
    assert all(line.isprintable() for line in lines)


@examples(60)
@given(st.lists(ALIASES.filter(str.isprintable) | st.just("a\nb"), unique=True, max_size=5))
def test_prometheus_with_any_alias(aliases: list[str]) -> None:
    """Whatever the aliases are, each has its own line, which Prometheus can read."""
    lines = prometheus_lines(report(*(key(alias, NOW) for alias in aliases)))
    found = samples(lines).get("apikey_expiry_timestamp_seconds", {})
    assert list(found) == aliases


@pytest.mark.parametrize(
    "stored", ["+999999999-12-31T23:59:59", "-9999-01-01T00:00", "0001-01-01T00:00"]
)
def test_prometheus_at_the_ends_of_the_calendar(zone: Callable[[str], None], stored: str) -> None:
    """An expiry that no calendar holds is a number, too."""
    zone("Pacific/Kiritimati")
    found = samples(prometheus_lines(report(key("odd", parse_stored(stored)))))
    assert len(found["apikey_expiry_timestamp_seconds"]) == 1


# Nagios

PLUGIN_LINE = re.compile(
    r"APIKEY (OK|WARNING|CRITICAL|UNKNOWN) - ([^|\n]+) \| (\w+=\d+(?: \w+=\d+)*)"
)


def test_nagios_when_all_is_well() -> None:
    """One line: the state, what there is, and the counters."""
    line = nagios_line(report(key("ci")))
    assert line == "APIKEY OK - 1 API keys are well. | keys=1 warning=0 critical=0"
    assert PLUGIN_LINE.fullmatch(line)


def test_nagios_when_something_is_wrong() -> None:
    """The worst comes first, and what is well is left out."""
    findings = (
        Finding("opens", Severity.OK, "The keystore opens."),
        Finding("unused", Severity.WARNING, "ci: not used for 90 days.", "Revoke it."),
        Finding("expired", Severity.CRITICAL, "web: expired."),
    )
    line = nagios_line(Report(findings, (key("ci"), key("web"))))
    said = "web: expired. ci: not used for 90 days."
    assert line == f"APIKEY CRITICAL - {said} | keys=2 warning=1 critical=1"


@examples(60)
@given(st.text(), st.sampled_from(Severity))
def test_nagios_is_always_one_line(alias: str, severity: Severity) -> None:
    """No alias breaks the line, or is taken for counters."""
    finding = Finding("expired", severity, f"{alias}: expired.")
    line = nagios_line(Report((finding,)))
    found = PLUGIN_LINE.fullmatch(line)
    assert found
    assert found[1] == severity.name
    assert line == escape(line)


@pytest.mark.parametrize(
    ("left", "code", "state"), [(400, 0, "OK"), (20, 1, "WARNING"), (2, 2, "CRITICAL")]
)
def test_nagios_exit_codes(run: Run, registry: ApiKeys, left: int, code: int, state: str) -> None:
    """The exit code is the one that goes with the state."""
    registry.create("ci", expires_on=datetime.now().replace(microsecond=0) + timedelta(days=left))
    done = run("check", "-o", "nagios")
    assert (done.returncode, done.stderr) == (code, "")
    found = PLUGIN_LINE.fullmatch(done.stdout.removesuffix("\n"))
    assert found
    assert found[1] == state


def test_prometheus_of_the_command(run: Run, registry: ApiKeys) -> None:
    """The output ends with a line feed, and the exit code is that of the check."""
    ends = datetime.now().replace(microsecond=0) + timedelta(days=20)
    registry.create("ci", expires_on=ends)
    done = run("check", "-o", "prometheus")
    assert (done.returncode, done.stderr, done.stdout[-1]) == (1, "", "\n")
    found = samples(iter(done.stdout.splitlines()))
    assert found["apikey_expiry_timestamp_seconds"] == {"ci": ends.timestamp()}


# The log

EVENTS = [
    Event(FIRST, "root@here", "create", "ci", "0" * 64, "roles: writer, reader"),
    Event(FIRST + timedelta(seconds=1), 'o\'neil, "x"@here', "revoke", "a,\tb\n"),
]


def test_log_lines(zone: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """When, who, what, which key, and the rest in parentheses; times are local."""
    zone("America/New_York")
    output().show(Logged(EVENTS, "/security/apikey-activity.db", HERE))
    assert capsys.readouterr().out.splitlines() == [
        "2027-06-15T08:00:00 root@here create ci (roles: writer, reader)",
        '2027-06-15T08:00:01 o\'neil, "x"@here revoke a,\\tb\\n',
    ]


def test_log_as_csv(zone: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Commas and quotes are quoted, times are instants, and no control character is left."""
    zone("America/New_York")
    output(Form.CSV).show(Logged(EVENTS, "", HERE))
    shown = capsys.readouterr().out
    assert list(csv.reader(StringIO(shown))) == [
        ["at", "actor", "action", "alias", "details"],
        ["2027-06-15T12:00:00Z", "root@here", "create", "ci", "roles: writer, reader"],
        ["2027-06-15T12:00:01Z", 'o\'neil, "x"@here', "revoke", "a,\\tb\\n", ""],
    ]


def test_log_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field is there, with the database it comes from."""
    output(Form.JSON).show(Logged(EVENTS, "/security/apikey-activity.db", HERE))
    found = json.loads(capsys.readouterr().out)
    assert found["database"] == "/security/apikey-activity.db"
    assert found["events"][1] == {
        "at": "2027-06-15T12:00:01Z",
        "actor": 'o\'neil, "x"@here',
        "action": "revoke",
        "alias": "a,\tb\n",
        "fingerprint": None,
        "details": None,
    }


def test_nothing_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """That is a sentence, an empty list, or a header alone."""
    output().show(Logged([], "", HERE))
    assert capsys.readouterr().out == "Nothing has been recorded.\n"
    output(Form.CSV).show(Logged([], "", HERE))
    assert capsys.readouterr().out == "at,actor,action,alias,details\n"
    output(Form.JSON).show(Logged([], "", HERE))
    assert json.loads(capsys.readouterr().out)["events"] == []


# Leaks and breaches


def test_leak_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """`file:line: alias`, nothing of it raw."""
    leak = Leak("dir/\x1b[31m.txt", 7, "ünï\n")
    assert leak_line(leak) == "dir/\\x1b[31m.txt:7: ünï\\n"
    output().show(Leaks(Found([leak], []), "store.p12"))
    output().show(Leaks(Found([], []), "store.p12"))
    assert capsys.readouterr().out.splitlines() == [
        "dir/\\x1b[31m.txt:7: ünï\\n",
        "No API keys found in there.",
    ]


def test_breaches_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """A role that somebody put there oddly does not move the cursor."""
    output().show(Breaches({"c\ti": ["no role '\x1b[2J'."]}, "store.p12"))
    assert capsys.readouterr().out == "c\\ti: no role '\\x1b[2J'.\n"
