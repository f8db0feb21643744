"""What monitoring systems get of a check: one line for Nagios, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from metricshub_apikey.formats.prometheus import NO_LABELS, Metric
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.expiry import Moment, instants

from .checks import Report, Severity


def nagios_line(report: Report) -> str:
    """
    Return the one line that Nagios, Icinga and the like show, with its counters.

    A vertical bar starts the counters (Monitoring Plugins guidelines), so the text has none.
    """
    bad = [one for one in report.findings if one.severity is not Severity.OK]
    bad.sort(key=lambda finding: -finding.severity)
    said = " ".join(finding.sentence for finding in bad) or f"{len(report.keys)} API keys are well."
    counts = " ".join(
        f"{severity.name.lower()}={_count(report, severity)}"
        for severity in (Severity.WARNING, Severity.CRITICAL)
    )
    said = escape(said).replace("|", "/")
    return f"APIKEY {report.severity.name} - {said} | keys={len(report.keys)} {counts}"


def metrics(report: Report, now: Moment) -> Iterator[Metric]:
    """
    Yield the numbers of a check, for the textfile collector of Prometheus.

    Args:
        report: What was found.
        now: The local time, which decides which keys have expired.
    """
    yield Metric(
        "apikey_check_severity",
        "0 all is well, 1 warning, 2 critical, 3 could not be checked.",
        [(NO_LABELS, int(report.severity))],
    )
    yield Metric(
        "apikey_findings",
        "What the check found, by severity.",
        [({"severity": one.name.lower()}, _count(report, one)) for one in Severity],
    )
    yield from _key_metrics(report, now)


def _key_metrics(report: Report, now: Moment) -> Iterator[Metric]:
    keys = [key for key in report.keys if key.unreadable is None]
    states = {
        "valid": sum(not key.expired(now) for key in keys),
        "expired": sum(key.expired(now) for key in keys),
        "unreadable": len(report.keys) - len(keys),
    }
    yield Metric(
        "apikey_keys", "API keys by state.", [({"state": s}, count) for s, count in states.items()]
    )
    yield Metric(
        "apikey_expiry_timestamp_seconds",
        "When each API key expires; keys without an expiry are left out.",
        [
            ({"alias": key.alias}, instants(key.expires_on, now.zone)[0].timestamp())
            for key in keys
            if key.expires_on
        ],
    )
    used = ((key, report.usage.of(key)) for key in keys)
    yield Metric(
        "apikey_last_used_timestamp_seconds",
        "When each API key was last used, as far as it was recorded.",
        [({"alias": key.alias}, at.timestamp()) for key, at in used if at],
    )


def _count(report: Report, severity: Severity) -> int:
    return sum(finding.severity is severity for finding in report.findings)
