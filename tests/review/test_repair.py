"""Mending: rights, leftovers and expiries typed by hand, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples, put
from conftest import Run, missing
from fields import fields
from metricshub_apikey import ApiKeys
from metricshub_apikey.activity.database import Event, path_beside
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.errors import KeystoreBusyError, KeystoreError
from metricshub_apikey.files import temporary
from metricshub_apikey.files.lock import hold
from metricshub_apikey.files.reading import identity
from metricshub_apikey.keys.api_key import ENTRY_PREFIX
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import ATTRIBUTES, Metadata
from metricshub_apikey.keystore.keystore import STOCK_PASSWORDS, Keystore
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.review.repair import repair as mend
from places import VECTORS
from stock import Stock, StockError

MENDED = {
    "2999-12-31": "2999-12-31T23:59:59",
    "2999-12-31 23:59": "2999-12-31T23:59:00",
    "2999-12-31 23:59:58.7": "2999-12-31T23:59:58",
    " 2999-12-31T23:59 ": "2999-12-31T23:59:00",
    "2999-06-30T12:00:00Z": "2999-06-30T08:00:00",
    "2999-06-30T12:00:00+02:00": "2999-06-30T06:00:00",
    "2001-02-03": "2001-02-03T23:59:59",
}
"""What a person wrote, and the same as Java reads it, in New York."""

LEFT = [
    "never",
    "31.12.2999",
    "2999-02-30",
    "2999-12-31T25:00",
    "tomorrow",
    "2999",
    "\u0662999-12-31",
]
"""What nobody could mean, or not for sure."""


def repair(keys: ApiKeys) -> list[str]:
    """Mend the keystore of *keys*."""
    return mend(keys._keystore, keys._journal, keys._now())


def mode(path: Path) -> int:
    """Return the rights of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def values(keystore: Path) -> dict[str, bytes]:
    """Return the values of the API keys by their alias."""
    store = Keystore(keystore).read()
    bags = [bag for bag in store.bags if (bag.alias or "").startswith(ENTRY_PREFIX)]
    found = zip(bags, store.values(bags), strict=True)
    return {bag.alias or "": value for bag, value in found if isinstance(value, bytes)}


def test_nothing_to_mend(registry: ApiKeys, keystore: Path) -> None:
    """A keystore that is well is not written."""
    registry.create("ci")
    before = identity(keystore.stat())
    assert repair(ApiKeys(Keystore(keystore))) == []
    assert identity(keystore.stat()) == before


@pytest.mark.parametrize("folder", [True, False])
def test_a_missing_keystore(keystore: Path, folder: bool) -> None:  # noqa: FBT001
    """Nothing is mended, and nothing is made."""
    if folder:
        keystore.parent.mkdir()
    assert repair(ApiKeys(Keystore(keystore))) == []
    assert [str(one) for one in keystore.parent.parent.rglob("*")] == [
        str(keystore.parent)
    ] * folder


@pytest.mark.parametrize(("typed", "stored"), MENDED.items())
def test_expiries_typed_by_hand(
    zone: Callable[[str], None], keystore: Path, typed: str, stored: str
) -> None:
    """What a person meant is written as Java reads it; the key stays."""
    zone("America/New_York")
    put(keystore, "ci", f"the-key__{typed}".encode(), 1000)
    assert repair(ApiKeys(Keystore(keystore))) == [f"The expiry of 'ci' is now {stored}."]
    assert values(keystore) == {"api_key:ci": f"the-key__{stored}".encode()}
    assert repair(ApiKeys(Keystore(keystore))) == []


@pytest.mark.parametrize(
    "value",
    [
        *(f"the-key__{typed}".encode() for typed in LEFT),
        b"__2999-12-31",
        b"____",
        b"\xff__2999-12-31",
    ],
)
def test_what_nobody_could_mean_is_left(keystore: Path, value: bytes) -> None:
    """Where it is not sure what was meant, the entry stays as it is."""
    put(keystore, "ci", value, 1000)
    before = identity(keystore.stat())
    assert repair(ApiKeys(Keystore(keystore))) == []
    assert identity(keystore.stat()) == before


@examples(12)
@given(
    st.from_regex("[0-9a-zA-Z-]{1,20}", fullmatch=True),
    st.datetimes(datetime(1000, 1, 1), datetime(9998, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", " %Y-%m-%dT%H:%M"]),
)
def test_any_such_expiry(
    tmp_path_factory: pytest.TempPathFactory, key: str, moment: datetime, form: str
) -> None:
    """Whatever the date and the key are, they are the same afterwards, and can be read."""
    keystore = tmp_path_factory.mktemp("any") / "store.p12"
    put(keystore, "ci", f"{key}__{moment.strftime(form)}".encode(), 1000)
    assert len(repair(ApiKeys(Keystore(keystore)))) == 1
    found = ApiKeys(Keystore(keystore)).get("ci")
    assert (found.secret.reveal(), found.created_ms) == (key, 1000)
    assert found.expires_on is not None
    assert found.expires_on.strftime(form) == moment.strftime(form)


def test_it_is_recorded(keystore: Path) -> None:
    """The journal is told which keys were mended, and nothing where none was."""
    events: list[Event] = []
    put(keystore, "ci", b"key__2999-12-31", 1000)
    journaled = ApiKeys(Keystore(keystore), journal=Journal("me@here", events.extend))
    repair(journaled)
    repair(journaled)
    (event,) = events
    assert event[1:] == ("me@here", "fix", "ci", fingerprint("key"), "expiry")


def test_everything_else_stays(registry: ApiKeys, keystore: Path) -> None:
    """Roles, creation and all other entries are kept; one write mends all keys."""
    keystore.parent.mkdir()
    shutil.copy(VECTORS / "jdk17.0.15-mixed.p12", keystore)
    keystore.chmod(0o600)
    registry.create("ci", **fields(Metadata(roles=("writer",), description="nightly")))
    before = registry.get("ci")
    others = {bag.raw for bag in Keystore(keystore).read().bags if bag.alias != "api_key:ci"}
    put(keystore, "first", b"one__2999-12-31", 1000)
    put(keystore, "second", b"two__2999-12-31 10:00", 1000)

    def spoil(store: Store) -> None:
        (bag,) = store.find("api_key:ci")
        secret = store.encrypt(
            "api_key:ci", f"{before.secret.reveal()}__2999-12-31".encode(), os.urandom
        )
        store.replace({bag: bag.revise(ATTRIBUTES, {}, secret=secret)})

    Keystore(keystore).update(spoil)
    assert len(repair(ApiKeys(Keystore(keystore)))) == 3
    mended = registry.get("ci")
    assert mended == before._replace(expires_on=datetime(2999, 12, 31, 23, 59, 59))
    assert others <= {bag.raw for bag in Keystore(keystore).read().bags}


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o666, 0o640), (0o644, 0o640), (0o660, 0o640), (0o777, 0o750), (0o604, 0o600)],
)
def test_rights(registry: ApiKeys, keystore: Path, before: int, after: int) -> None:
    """Others lose every right, and the group that of writing; nobody gets one."""
    registry.create("ci")
    keystore.chmod(before)
    content = keystore.read_bytes()
    assert repair(ApiKeys(Keystore(keystore))) == [f"The file's mode is now {after:04o}."]
    assert (mode(keystore), keystore.read_bytes()) == (after, content)
    assert repair(ApiKeys(Keystore(keystore))) == []


def test_leftovers(registry: ApiKeys, keystore: Path) -> None:
    """What killed writers left is removed, of the keystore and of the activity database."""
    registry.create("ci")
    database = path_beside(str(keystore))
    left = [temporary.new_name(path, os.urandom) for path in (str(keystore), database)]
    others = [keystore.with_name(name) for name in (f".{keystore.name}.tmp", "notes.tmp")]
    for path in (*map(Path, left), *others):
        path.touch()
    done = repair(ApiKeys(Keystore(keystore)))
    assert done == sorted(f"{os.path.basename(path)} is removed." for path in left)
    assert not any(map(os.path.exists, left))
    assert all(path.exists() for path in others)


def test_a_writer_at_work(registry: ApiKeys, keystore: Path) -> None:
    """Under the lock of somebody else nothing is mended."""
    registry.create("ci")
    left = Path(temporary.new_name(str(keystore), os.urandom))
    left.touch()
    busy = Keystore(keystore, STOCK_PASSWORDS, lock_timeout=0.1)
    with hold(str(keystore), owner=None, timeout=1), pytest.raises(KeystoreBusyError):
        repair(ApiKeys(busy))
    assert left.exists()


def test_a_link_is_not_followed(registry: ApiKeys, keystore: Path, tmp_path: Path) -> None:
    """A link that is put in the keystore's place meanwhile costs nobody else a right."""
    registry.create("ci")
    keystore.chmod(0o644)
    precious = tmp_path / "precious"
    precious.touch()
    precious.chmod(0o644)

    class Swapped(Keystore):
        """A keystore that somebody replaces as soon as it has been written."""

        def update(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            done: object = super().update(*arguments, **options)  # type: ignore[arg-type]
            keystore.unlink()
            keystore.symlink_to(precious)
            return done

    with pytest.raises(KeystoreError):
        repair(ApiKeys(Swapped(keystore)))
    assert mode(precious) == 0o644


# The command


def test_fix(run: Run, keystore: Path, stock: Stock) -> None:
    """What was done is said, a stock server then takes all keys, and a second time is none."""
    keystore.parent.mkdir()
    stock.ask("create", keystore, "before", "key-before")
    put(keystore, "hand-made", b"key-made__2999-12-31", 1000)
    stock.ask("create", keystore, "after", "key-after")
    keystore.chmod(0o644)
    with pytest.raises(StockError, match="DateTimeParseException"):
        stock.ask("find", keystore, "key-after")
    done = run("check", "--fix")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == [
        "Fixed: The expiry of 'hand-made' is now 2999-12-31T23:59:59.",
        "Fixed: The file's mode is now 0640.",
    ]
    for alias in ("before", "made", "after"):
        (answer,) = stock.ask("find", keystore, f"key-{alias}")
        assert answer.startswith("accepted ")
    before = identity(keystore.stat())
    again = json.loads(run("check", "--fix", "-o", "json").stdout)
    assert (again["fixed"], again["severity"]) == ([], "ok")
    assert identity(keystore.stat()) == before


def test_fix_of_what_is_missing(run: Run, keystore: Path) -> None:
    """Nothing is made, and the check still says what is wrong."""
    done = run("check", "--fix")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"unknown  {keystore} does not exist.\n"
    assert not keystore.parent.exists()


def test_fix_of_what_is_damaged(run: Run, keystore: Path) -> None:
    """What cannot be mended is a warning, and the exit code that of the check."""
    keystore.parent.mkdir()
    keystore.write_bytes(b"hello")
    done = run("check", "--fix", "-o", "nagios")
    assert (done.returncode, keystore.read_bytes()) == (2, b"hello")
    assert done.stdout.startswith(f"APIKEY CRITICAL - {keystore} is not a PKCS#12 keystore.")
    assert done.stderr == f"Warning: --fix failed: {keystore} is not a PKCS#12 keystore.\n"


def test_fix_without_the_right(run: Run, public: Path, ordinary: list[str]) -> None:
    """An ordinary user who may only read is told so, and gets the check all the same."""
    if os.geteuid():
        missing("a file of somebody else's needs root")
    keystore = public / "store.p12"
    put(keystore, "ci", b"key__2999-12-31", 1000)
    keystore.chmod(0o644)
    before = identity(keystore.stat())
    done = run("check", "--fix", "-o", "nagios", "--keystore", keystore, command=ordinary)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Warning: --fix failed: Access denied to {keystore}.")
    assert "0644: others may read or change it." in done.stdout
    assert identity(keystore.stat()) == before
