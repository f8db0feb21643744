"""What is well with a keystore and its keys, and what is not; `repair` is elsewhere."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from metricshub_apikey.activity import database
from metricshub_apikey.errors import (
    DamagedError,
    EntryUnreadableError,
    KeystoreError,
    LimitError,
    NotAKeystoreError,
    PolicyError,
    ReadFailedError,
    UnsafeLocationError,
    UnsupportedError,
    own_command,
)
from metricshub_apikey.files import leftovers, lock, ownership, temporary
from metricshub_apikey.keys import entries
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.keystore.server_zone import ServerZone
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.kdf import KdfParameters
from metricshub_apikey.pkcs12.pbe import Pbes2
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry.rotation import PREVIOUS, is_previous

if TYPE_CHECKING:
    from metricshub_apikey.files.windows import Access

UNUSED_FOR = timedelta(days=90)
MODERN_ITERATIONS = 10_000
NAMED = 5


SOURCES = {
    "option": "--timezone names",
    "policy": "the policy names",
    "environment": "TZ names",
    "etc-timezone": "Java finds in /etc/timezone",
    "etc-localtime": "Java finds in /etc/localtime",
    "windows": "is that of this system",
    "default": "Java takes where nothing names a zone",
}
"""What decides about the server's zone, as the end of a sentence."""


class Severity(IntEnum):
    """How bad a finding is; the numbers are the exit codes of the command."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Finding(NamedTuple):
    """
    One thing that was looked at.

    Attributes:
        check: A stable name for scripts.
        severity: How bad it is.
        sentence: What was found.
        hint: What to do, where there is something to do.
        aliases: The keys it is about.
    """

    check: str
    severity: Severity
    sentence: str
    hint: str | None = None
    aliases: tuple[str, ...] = ()


class Thresholds(NamedTuple):
    """When an expiry is near, and when it is very near."""

    warn: timedelta = timedelta(days=30)
    critical: timedelta = timedelta(days=7)


def check_file(path: str) -> Iterator[Finding]:
    """Look at the rights of the keystore, its directory, and what lies beside it."""
    path = os.path.realpath(path)
    if sys.platform == "win32":
        yield from _check_access(path)
    else:
        yield from _check_owners(path)
    left = [one.name for one in leftovers.find(path) if not one.written_to]
    left += temporary.names(database.path_beside(path))
    if left:
        sentence = f"{_some(left)}: left by a writer that was killed."
        yield Finding(
            "leftovers", Severity.WARNING, sentence, f"Remove them: {own_command('check --fix')}"
        )


def _check_owners(path: str) -> Iterator[Finding]:
    try:
        ownership.check_directory(path, lock.lock_path(path))
    except UnsafeLocationError as error:
        yield Finding("directory", Severity.CRITICAL, error.message, error.hint)
    else:
        yield Finding("directory", Severity.OK, "No other user can replace the file.")
    yield _check_mode(path)


def _check_access(path: str) -> Iterator[Finding]:
    """Look at the access lists of Windows; where they cannot be read, say that."""
    folder = os.path.dirname(path)
    try:
        of_file = ownership.access_of_others(path)
        of_folder = ownership.access_of_others(folder, directory=True)
    except OSError as error:
        why = f"The access lists were not looked at: {error.strerror}."
        yield Finding("access", Severity.WARNING, why, "Run it as an administrator.")
        return
    if of_file is not None and of_folder is not None:
        yield from access_findings(path, of_file, of_folder)


def access_findings(path: str, of_file: Access, of_folder: Access) -> Iterator[Finding]:
    """Judge what others than SYSTEM, Administrators and the owner may do on Windows."""
    from metricshub_apikey.files.windows import EVERYBODY

    folder = os.path.dirname(path)
    for check, name, accounts, severity, what in (
        ("directory", folder, of_folder.change, Severity.CRITICAL, "replace the file"),
        ("directory", folder, of_folder.add, Severity.WARNING, "make files beside it"),
        ("mode", path, of_file.change, Severity.CRITICAL, "change the file"),
        ("mode", path, of_file.read, Severity.CRITICAL, "read the file"),
    ):
        known = [EVERYBODY[one] for one in accounts if one in EVERYBODY]
        others = [one for one in accounts if one not in EVERYBODY]
        if known:
            who = ", ".join(name for name, _ in known)
            ids = " ".join(f"*{identifier}" for _, identifier in known)
            hint = f'Take that away: icacls "{name}" /inheritance:d /remove:g {ids}'
            yield Finding(check, severity, f"By its access list, {who} may {what}.", hint)
        elif others:
            yield Finding(check, Severity.OK, f"By its access list, {_some(others)} may {what}.")
        else:
            sentence = f"Only SYSTEM, Administrators and the owner may {what}."
            yield Finding(check, Severity.OK, sentence)


def _check_mode(path: str) -> Finding:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    shown = f"The file has mode {mode:04o}"
    if mode & ownership.TOO_MUCH:
        hint = f"Take those rights away: {own_command('check --fix')}"
        who = "others may read or change it" if mode & stat.S_IRWXO else "its group may change it"
        return Finding("mode", Severity.CRITICAL, f"{shown}: {who}.", hint)
    odd = ownership.odd_owner(path)
    return Finding("mode", Severity.WARNING if odd else Severity.OK, odd or f"{shown}.")


def check_entries(store: Store, keys: Sequence[ApiKey]) -> Iterator[Finding]:
    """Look for what a stock server stumbles over, and for what hides another key."""
    unreadable = tuple(
        key.alias for key in keys if key.unreadable is not None and not key.suspended
    )
    if unreadable:
        yield Finding(
            "entries",
            Severity.CRITICAL,
            f"{_some(unreadable)} cannot be read: a stock server refuses every key after it.",
            f"Mend an expiry written by hand: {own_command('check --fix')}; else revoke: "
            + own_command("revoke", *unreadable[:NAMED]),
            unreadable,
        )
    bags = entries.all_by_entry(store)
    hidden = tuple(entries.alias_of(entry) for entry, found in bags.items() if len(found) > 1)
    if hidden:
        sentence = f"{_some(hidden)}: stored several times; the last one counts."
        hint = f"Revoke, then create: {own_command('revoke', *dict.fromkeys(hidden[:NAMED]))}"
        yield Finding("duplicates", Severity.WARNING, sentence, hint, hidden)
    suspended = tuple(key.alias for key in keys if key.suspended)
    if suspended:
        resume = own_command("resume", *suspended[:NAMED])
        hint = f"Servers refuse it until it is resumed: {resume}"
        yield Finding("suspended", Severity.OK, f"{_some(suspended)}: suspended.", hint, suspended)
    waiting = tuple(entries.alias_of(bag.alias or "") for bag in entries.pending(store))
    if waiting:
        sentence = f"{_some(waiting)}: a new key that was not delivered; no server accepts it."
        hint = "Run its command again, or remove what is older than a day: apikey check --fix"
        yield Finding("pending", Severity.WARNING, sentence, hint, waiting)
    if not unreadable and not hidden:
        yield Finding("entries", Severity.OK, f"{len(keys):,} API keys can be read.")


def check_expiry(
    keys: Iterable[ApiKey], *, now: Moment, thresholds: Thresholds
) -> Iterator[Finding]:
    """
    Look for keys that have expired or will soon.

    The old key of a rotation is meant to expire, and a suspended key is refused already, so they
    are no cause for alarm.

    Args:
        keys: The keys.
        now: The current moment.
        thresholds: What soon means.
    """
    groups: dict[str, list[str]] = {"expired": [], "over": [], "critical": [], "warn": []}
    for key in keys:
        if key.expires_on is None or key.suspended:
            continue
        left = key.expires_on - now.local
        if is_previous(key):
            name = "over" if left <= timedelta() else ""
        elif left <= timedelta():
            name = "expired"
        else:
            name = "critical" if left <= thresholds.critical else "warn"
            name = name if left <= thresholds.warn or name == "critical" else ""
        if name:
            groups[name].append(key.alias)
    if not any(groups.values()):
        yield Finding("expiry", Severity.OK, "No key has expired or will soon.")
    yield from _expiry_findings(groups)


def _expiry_findings(groups: dict[str, list[str]]) -> Iterator[Finding]:
    for name, check, severity, what in (
        ("expired", "expired", Severity.CRITICAL, "expired"),
        ("critical", "expiring", Severity.CRITICAL, "about to expire"),
        ("warn", "expiring", Severity.WARNING, "expiring soon"),
        ("over", "rotated", Severity.OK, "old key of a rotation, over"),
    ):
        aliases = tuple(groups[name])
        if aliases:
            hint = _expiry_hint(name, aliases)
            yield Finding(check, severity, f"{_some(aliases)}: {what}.", hint, aliases)


def _expiry_hint(name: str, aliases: Sequence[str]) -> str:
    if name == "over":
        alias = aliases[0].removesuffix(PREVIOUS)
        return f"Remove it: {own_command('rotate --finish', alias)}"
    rotate = f"Replace: {own_command('rotate', aliases[0])}"
    revoke = own_command("revoke", *aliases[:NAMED])
    return f"{rotate}; or revoke: {revoke}" if name == "expired" else rotate


def check_time(zone: tzinfo) -> Iterator[Finding]:
    """Tell in which zone expiries are read, and whether that is certain."""
    if not isinstance(zone, ServerZone):
        return
    found = zone.found
    if not found.notes:
        sentence = f"Expiries are read in {found.name}, which {SOURCES[found.source]}."
        yield Finding("time", Severity.OK, sentence)
        return
    sentence = " ".join(note.message for note in found.notes)
    hint = "Name the server's zone in the policy: timezone in [server]."
    yield Finding("time", Severity.WARNING, sentence, hint)


def check_use(keys: Iterable[ApiKey], usage: Usage, *, now: datetime) -> Iterator[Finding]:
    """Look for keys that were not used for a long time; *now* is the current instant."""
    since = now - UNUSED_FOR
    idle = tuple(key.alias for key in keys if not key.suspended and usage.unused(key, since=since))
    if idle:
        sentence = f"{_some(idle)}: not used for {UNUSED_FOR.days} days."
        yield Finding("unused", Severity.WARNING, sentence, "Revoke what is not needed.", idle)
    elif usage.since is not None:
        yield Finding("unused", Severity.OK, f"No key lay idle for {UNUSED_FOR.days} days.")


def check_policy(
    keys: Iterable[ApiKey], policy: Policy | PolicyError, *, zone: tzinfo
) -> Iterator[Finding]:
    """Look for keys that break the policy; or say that it cannot be read."""
    if isinstance(policy, PolicyError):
        yield Finding("policy", Severity.CRITICAL, policy.message, policy.hint)
        return
    if policy.path is None:
        return
    guilty = tuple(key.alias for key in keys if breaches(key, policy, zone))
    if guilty:
        sentence = f"{_some(guilty)}: against the policy."
        yield Finding(
            "policy", Severity.WARNING, sentence, f"See: {own_command('policy check')}", guilty
        )
    else:
        yield Finding("policy", Severity.OK, f"Every key keeps {policy.path}.")
    severity = Severity.WARNING if policy.enforced else Severity.OK
    for remark in policy.remarks():
        yield Finding("roles", severity, remark, f"See: {own_command('policy show')}")


def breaches(key: ApiKey, policy: Policy, zone: tzinfo) -> list[str]:
    """Return, as sentences, the rules that an existing key breaks; an old key's life is short."""
    if key.unreadable is not None or is_previous(key):
        return []
    # A key without a creation date has no length of life.
    created_at = Moment(key.created_at or datetime.max.replace(tzinfo=UTC), zone)
    found = policy.breaches(
        expires_on=key.expires_on, created_at=created_at, roles=key.metadata.roles
    )
    return [breach.sentence for breach in found]


def all_breaches(keys: Iterable[ApiKey], policy: Policy, zone: tzinfo) -> dict[str, list[str]]:
    """Return, by alias, the rules that each key breaks which breaks any; see `breaches`."""
    found = {key.alias: breaches(key, policy, zone) for key in keys}
    return {alias: sentences for alias, sentences in found.items() if sentences}


def check_algorithms(store: Store, keys: Iterable[ApiKey]) -> Iterator[Finding]:
    """Tell which protection is that of old Java versions; nothing has to be done at once."""
    found = entries.by_entry(store)
    old = tuple(key.alias for key in keys if _is_old(found, key))
    if old:
        sentence = f"{_some(old)}: encrypted as old Java versions did."
        hint = "A rotated key is encrypted as today."
        yield Finding("algorithms", Severity.OK, sentence, hint, old)
    scheme = store.seal.scheme if store.seal else None
    if isinstance(scheme, KdfParameters) and scheme.hash_name == "sha1":
        sentence = "The file's MAC is that of old Java versions; the next change renews it."
        yield Finding("algorithms", Severity.OK, sentence)


def _is_old(found: Mapping[str, Bag], key: ApiKey) -> bool:
    try:
        algorithm = found[key.entry].encrypted().algorithm
    except EntryUnreadableError:
        return False
    return not isinstance(algorithm, Pbes2) or algorithm.kdf.iterations < MODERN_ITERATIONS


def _some(names: Sequence[str]) -> str:
    """Name a few of *names*."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


class Report(NamedTuple):
    """
    All that was found.

    Attributes:
        findings: In the order of the checks.
        keys: The keys, where the keystore could be read.
        usage: What is known of their use.
        done: What was mended, each a sentence.
    """

    findings: tuple[Finding, ...]
    keys: tuple[ApiKey, ...] = ()
    usage: Usage = Usage()
    done: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """How bad it is altogether."""
        return max((finding.severity for finding in self.findings), default=Severity.OK)


def examine(
    keystore: Keystore,
    *,
    policy: Policy | PolicyError,
    usage: Usage,
    now: Moment,
    thresholds: Thresholds,
) -> Report:
    """
    Do all checks.

    Args:
        keystore: The file.
        policy: The rules, or why they cannot be read.
        usage: What is known of the keys' use.
        now: The current moment.
        thresholds: Which expiries are near.
    """
    try:
        store = keystore.read()
        if not os.path.exists(keystore.path):
            raise ReadFailedError(f"{keystore.path} does not exist.")
        with keystore.named_in_errors():
            keys = tuple(entries.read(store, entries.by_entry(store)).values())
        file_findings = list(check_file(keystore.path))
        unfinished = keystore.unfinished(store)
    except (DamagedError, NotAKeystoreError, UnsupportedError, LimitError) as error:
        return Report((Finding("opens", Severity.CRITICAL, error.message, error.hint),))
    except (KeystoreError, OSError) as error:
        said = Finding("opens", Severity.UNKNOWN, str(error), getattr(error, "hint", None))
        return Report((said,))
    count = f"{len(store.bags):,} entries, {len(keys):,} of them API keys"
    findings = [
        Finding("opens", Severity.OK, f"The keystore opens: {count}."),
        *file_findings,
        *(Finding("leftovers", Severity.CRITICAL, told) for told in unfinished),
        *check_entries(store, keys),
        *check_expiry(keys, now=now, thresholds=thresholds),
        *check_time(now.zone),
        *check_use(keys, usage, now=now.instant),
        *check_policy(keys, policy, zone=now.zone),
        *check_algorithms(store, keys),
    ]
    return Report(tuple(findings), keys, usage)
