"""What the other commands show: the check, the log, leaks, a verdict, the policy, a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from metricshub_apikey.activity.database import Event
from metricshub_apikey.keys.expiry import instants, text, to_local, utc_text
from metricshub_apikey.policy.rules import Policy, describe, document
from metricshub_apikey.review.checks import Finding, Report, Severity

from .output import Form, Output, escape
from .views import KEY_FIELDS, View, expiry_phrase, key_document

if TYPE_CHECKING:
    from metricshub_apikey.registry.plan import Plan
    from metricshub_apikey.registry.verification import Verdict
    from metricshub_apikey.review.leaks import Leak

LOG_FIELDS = ("at", "actor", "action", "alias", "details")
SIGNS = {"create": "+", "edit": "~", "remove": "-"}
MARKS = {
    Severity.OK: ("ok", "green"),
    Severity.WARNING: ("warning", "yellow"),
    Severity.CRITICAL: ("critical", "red"),
    Severity.UNKNOWN: ("unknown", "red"),
}


def show_report(view: View, report: Report) -> None:
    """Show what was checked, in the form that was asked for."""
    out = view.out
    if out.form is Form.JSON:
        found = [_finding_document(finding) for finding in report.findings]
        severity, done = report.severity.name.lower(), list(report.done)
        view.document(severity=severity, findings=found, fixed=done)
    elif out.form is Form.PROMETHEUS:
        out.lines(list(prometheus_lines(report, view)))
    elif out.form is Form.NAGIOS:
        out.lines([nagios_line(report)])
    else:
        from .tables import show_findings

        out.lines([f"Fixed: {escape(sentence)}" for sentence in report.done])
        show_findings(out, report.findings, MARKS)


def _finding_document(finding: Finding) -> dict[str, object]:
    aliases = list(finding.aliases)
    severity = finding.severity.name.lower()
    return {**finding._asdict(), "severity": severity, "aliases": aliases}


def nagios_line(report: Report) -> str:
    """Return the one line that Nagios, Icinga and the like show, and their counters."""
    bad = [one for one in report.findings if one.severity is not Severity.OK]
    bad.sort(key=lambda finding: -finding.severity)
    said = " ".join(finding.sentence for finding in bad) or f"{len(report.keys)} API keys are well."
    counts = " ".join(
        f"{severity.name.lower()}={sum(one.severity is severity for one in report.findings)}"
        for severity in (Severity.WARNING, Severity.CRITICAL)
    )
    said = escape(said).replace("|", "/")
    return f"APIKEY {report.severity.name} - {said} | keys={len(report.keys)} {counts}"


def prometheus_lines(report: Report, view: View) -> Iterator[str]:
    """Yield the metrics in the text format of Prometheus, for its textfile collector."""
    now = view.now
    keys = [key for key in report.keys if key.unreadable is None]
    states = {
        "valid": sum(not key.expired(now) for key in keys),
        "expired": sum(key.expired(now) for key in keys),
        "unreadable": len(report.keys) - len(keys),
    }
    yield from _metric(
        "apikey_check_severity",
        "0 all is well, 1 warning, 2 critical, 3 could not be checked.",
        [({}, int(report.severity))],
    )
    findings = [
        ({"severity": severity.name.lower()}, sum(o.severity is severity for o in report.findings))
        for severity in Severity
    ]
    yield from _metric("apikey_findings", "What the check found, by severity.", findings)
    yield from _metric(
        "apikey_keys", "API keys by state.", [({"state": s}, count) for s, count in states.items()]
    )
    yield from _metric(
        "apikey_expiry_timestamp_seconds",
        "When each API key expires; keys without an expiry are left out.",
        [
            ({"alias": key.alias}, instants(key.expires_on, now.zone)[0].timestamp())
            for key in keys
            if key.expires_on
        ],
    )
    used = ((key, report.usage.of(key)) for key in keys)
    yield from _metric(
        "apikey_last_used_timestamp_seconds",
        "When each API key was last used, as far as it was recorded.",
        [({"alias": key.alias}, at.timestamp()) for key, at in used if at],
    )


def _metric(
    name: str, about: str, samples: Sequence[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        shown = ",".join(f'{label}="{_quoted(held)}"' for label, held in labels.items())
        yield f"{name}{{{shown}}} {value:.0f}" if shown else f"{name} {value:.0f}"


def _quoted(held: str) -> str:
    lines = (escape(line).replace("\\", "\\\\").replace('"', '\\"') for line in held.split("\n"))
    return "\\n".join(lines)


def show_log(view: View, events: Sequence[Event], *, database: str) -> None:
    """Show who did what and when, oldest first."""
    out = view.out
    if out.form is Form.JSON:
        found = [{**event._asdict(), "at": utc_text(event.at)} for event in events]
        return out.document({"database": database, "events": found})
    rows = [
        (text(to_local(one.at, view.now.zone)), one.actor, one.action, one.alias, one.details or "")
        for one in events
    ]
    if out.form is Form.CSV:
        times = (utc_text(event.at) for event in events)
        return out.table(
            LOG_FIELDS, ([at, *map(escape, row[1:])] for at, row in zip(times, rows, strict=True))
        )
    lines = [
        f"{at} {escape(actor)} {escape(action)} {out.green(escape(alias))}"
        + (f" ({escape(details)})" if details else "")
        for at, actor, action, alias, details in rows
    ]
    return out.lines(lines or ["Nothing has been recorded."])


def leak_line(leak: Leak) -> str:
    """Return `file:line: alias`."""
    return escape(f"{leak.file}:{leak.line}: {leak.alias}")


def show_leaks(view: View, leaks: Iterable[Leak]) -> None:
    """Show where keys were found; never the keys."""
    if view.out.form is Form.JSON:
        view.document(leaks=[leak._asdict() for leak in leaks])
    else:
        view.out.lines([leak_line(leak) for leak in leaks] or ["No API keys found in there."])


def show_verdict(view: View, verdict: Verdict) -> None:
    """Say which key it is, and whether it would be accepted."""
    key = verdict.key
    if view.out.form is Form.JSON:
        fields = key_document(view, key) if key else dict.fromkeys(KEY_FIELDS)
        return view.document(
            accepted=verdict.accepted, reason=verdict.reason, message=verdict.sentence, **fields
        )
    name = f"{view.out.green(escape(key.alias))}: " if key else ""
    if verdict.accepted and key is not None:
        sentence = f"accepted ({expiry_phrase(key.expires_on, view.now)})"
        rotated = key.metadata.rotated_at
        sentence += f"; rotated at {text(to_local(rotated, view.now.zone))}" if rotated else ""
    else:
        sentence = f"refused ({escape(verdict.sentence)})"
    return view.out.lines([name + sentence])


def show_policy(out: Output, policy: Policy) -> None:
    """Show the rules in force."""
    if out.form is Form.JSON:
        return out.document(document(policy))
    pairs = describe(policy)
    width = max(len(name) for name, _ in pairs) + 1
    return out.lines([f"{escape(f'{name}:'):{width}} {escape(said)}" for name, said in pairs])


def show_policy_written(out: Output, path: str, template: str) -> None:
    """Say where the new policy file is."""
    if out.form is Form.JSON:
        out.document({"path": path, "template": template})
    else:
        out.lines([f"The {template} policy has been written to {escape(path)}."])


def show_breaches(view: View, breaches: Mapping[str, Sequence[str]]) -> None:
    """Show which keys break which rules, given as sentences by alias."""
    if view.out.form is Form.JSON:
        found = [{"alias": alias, "breaches": list(said)} for alias, said in breaches.items()]
        return view.document(keys=found)
    lines = [
        f"{view.out.green(escape(alias))}: {escape(sentence)}"
        for alias, sentences in breaches.items()
        for sentence in sentences
    ]
    return view.out.lines(lines or ["Every key keeps the policy."])


def show_plan(view: View, plan: Plan, *, dry_run: bool, files: Mapping[str, str]) -> None:
    """Show what `apply` does, or would do; *files* has the file of each new key by its alias."""
    if view.out.form is Form.JSON:
        steps = [
            {**step._asdict(), "fields": list(step.fields), "file": files.get(step.alias)}
            for step in plan.steps
        ]
        return view.document(dry_run=dry_run, steps=steps)
    lines = []
    for step in plan.steps:
        fields = f" ({', '.join(step.fields)})" if step.fields else ""
        file = f": written to {escape(files[step.alias])}" if step.alias in files else ""
        lines.append(f"{SIGNS[step.action]} {escape(step.alias)}{fields}{file}")
    return view.out.lines(lines or ["Nothing to change."])
