"""The keys in force: they follow keystore and policy at once, and survive whatever is torn."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import metricshub_apikey.gateway.keyring as keyring_module
from clock import HERE, at
from conftest import ORDINARY_USER
from fields import fields
from metricshub_apikey import ApiKeys, Policy
from metricshub_apikey.errors import ApiKeyError
from metricshub_apikey.gateway.clock import ServerClock
from metricshub_apikey.gateway.credential import Credential
from metricshub_apikey.gateway.keyring import MOST_REMOVED, RETRY_SECONDS, SETTLE_SECONDS, Keyring
from metricshub_apikey.keys.api_key import ENTRY_PREFIX, ApiKey
from metricshub_apikey.keys.expiry import after, wall_seconds
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keystore.keystore import Keystore
from metricshub_apikey.pkcs12.bag import Bag
from metricshub_apikey.pkcs12.store import Store
from metricshub_apikey.policy.location import FILE_NAME
from metricshub_apikey.policy.rules import STOCK
from metricshub_apikey.secret import Secret
from ruled import RuledKeys

READER = '[roles.reader]\nallow = ["GET /**"]\n'
LIMITED = f"{READER}[rate_limit]\nrequests_per_minute = 7\n"


class House:
    """A keystore with keys, and a gateway's view of it."""

    def __init__(self, keystore: Path, policy: str | None = None) -> None:
        """Look at a keystore; nothing is read yet."""
        self.path = keystore
        self.policy = keystore.with_name(FILE_NAME)
        self.registry = RuledKeys(Keystore(keystore), Policy.none())
        self.said: list[str] = []
        self.ticks = 0.0
        ticks = lambda: self.ticks  # noqa: E731
        self.keyring = Keyring(Keystore(keystore), policy, report=self.said.append, ticks=ticks)

    def create(self, *aliases: str) -> None:
        """Make keys with the role of readers."""
        for alias in aliases:
            self.registry.create(alias, **fields(Metadata(roles=("reader",))))

    def token(self, alias: str) -> bytes:
        """Return the secret of a key."""
        key = self.registry.get(alias).secret.reveal()
        assert key is not None
        return key.encode()

    async def aliases(self) -> set[str]:
        """Return the keys in force for a request that comes now."""
        await asyncio.sleep(0)  # a request comes in a turn of the loop of its own
        await self.keyring.follow()
        return in_force(self.keyring)

    async def accepts(self, token: bytes) -> bool:
        """Return whether a request that comes now with *token* finds its key."""
        await asyncio.sleep(0)
        await self.keyring.follow()
        return self.keyring.find(token) is not None

    def settle(self) -> None:
        """Wait until the files are old enough that `stat` alone tells of a change."""
        time.sleep(SETTLE_SECONDS + 0.02)
        asyncio.run(self.aliases())
        assert not self.keyring._is_stale()


def in_force(keyring: Keyring) -> set[str]:
    """Return the aliases of the keys in force."""
    assert keyring.snapshot is not None
    return {one.identity.alias for one in keyring.snapshot.credentials.values()}


def roles(keyring: Keyring) -> set[str] | None:
    """Return the names of the roles in force."""
    assert keyring.snapshot is not None
    known = keyring.snapshot.policy.roles
    return None if known is None else set(known)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a keystore with the keys `ci` and `web`."""
    house = House(tmp_path_factory.mktemp("house") / "keys.p12")
    house.create("ci", "web")
    return house.path.read_bytes()


@pytest.fixture
def house(keystore: Path, data: bytes) -> House:
    """Return a keystore with the keys `ci` and `web`, that has settled, and without a policy."""
    house = House(keystore)
    keystore.parent.mkdir()
    keystore.write_bytes(data)
    house.settle()
    return house


@pytest.fixture
def ruled(house: House) -> House:
    """Do as `house`, with a policy that knows the role of readers."""
    house.policy.write_text(READER)
    house.settle()
    assert roles(house.keyring) == {"reader"}
    return house


# How a keystore changes


def revoked(path: Path, alias: str = "web") -> bytes:
    """Return the keystore's bytes without a key; the file itself stays as it is."""
    copy = path.with_name("copy.p12")
    shutil.copy(path, copy)
    ApiKeys(Keystore(copy)).revoke(alias)
    data = copy.read_bytes()
    copy.unlink()
    return data


def put(path: Path, data: bytes) -> None:
    """Replace a file, or whatever is in its place, by another one."""
    if path.is_dir():
        path.rmdir()
    new = path.with_name("new.tmp")
    new.write_bytes(data)
    new.replace(path)


def rewrite(path: Path, data: bytes) -> None:
    """Write as a Java program does: empty the file, then fill it."""
    with path.open("r+b", buffering=0) as file:
        file.truncate(0)
        file.write(data)


def overwrite(path: Path, data: bytes) -> None:
    """Write in place, leave the time as it was, and as many bytes as before."""
    status = path.stat()
    with path.open("r+b", buffering=0) as file:
        file.write(data + bytes(status.st_size - len(data)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (status.st_mtime_ns, status.st_size)


@pytest.mark.parametrize("change", [put, rewrite, overwrite])
def test_a_change_is_in_force_for_the_next_request(
    house: House, change: Callable[[Path, bytes], None]
) -> None:
    """However the file is written, a removed key is refused at once, and the others stay."""
    web, ci = house.token("web"), house.token("ci")
    data = revoked(house.path)

    async def story() -> None:
        assert await house.accepts(web)
        change(house.path, data)
        assert not await house.accepts(web)
        assert await house.accepts(ci)

    asyncio.run(story())


def test_our_own_commands_are_in_force_for_the_next_request(house: House) -> None:
    """What `apikey` creates and revokes is known without any waiting, many times over."""

    async def story() -> None:
        for number in range(4):
            house.create(f"new-{number}")
            token = house.token(f"new-{number}")
            assert await house.accepts(token)
            house.registry.revoke(f"new-{number}")
            assert not await house.accepts(token)

    asyncio.run(story())


def test_a_volume_that_is_swapped(house: House, tmp_path: Path) -> None:
    """Kubernetes mounts a directory of links, and swaps the one that they lead through."""
    volume = tmp_path / "volume"
    old, new = volume / "..1", volume / "..2"
    for version, data in ((old, house.path.read_bytes()), (new, revoked(house.path))):
        version.mkdir(parents=True)
        (version / "keys.p12").write_bytes(data)
        (version / FILE_NAME).write_text(READER)
    (new / FILE_NAME).write_text("[roles.writer]\nallow = []\n")
    (volume / "..data").symlink_to("..1")
    for name in ("keys.p12", FILE_NAME):
        (volume / name).symlink_to(f"..data/{name}")
    mounted = House(volume / "keys.p12")
    mounted.settle()
    assert (in_force(mounted.keyring), roles(mounted.keyring)) == ({"ci", "web"}, {"reader"})

    async def story() -> None:
        (volume / "..tmp").symlink_to("..2")
        (volume / "..tmp").replace(volume / "..data")
        assert await mounted.aliases() == {"ci"}
        assert roles(mounted.keyring) == {"writer"}
        (new / FILE_NAME).write_text(READER)
        await mounted.aliases()
        assert roles(mounted.keyring) == {"reader"}

    asyncio.run(story())


def test_a_clock_that_ticks_seldom(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within one tick of the file system's clock is seen, too."""
    stamp = keyring_module._stamp

    def coarse(path: str) -> tuple[int, ...] | None:
        found = stamp(path)
        second = 1_000_000_000
        return found and (found[0] // second * second, found[1] // second * second, *found[2:])

    monkeypatch.setattr(keyring_module, "_stamp", coarse)
    monkeypatch.setattr(keyring_module, "SETTLE_SECONDS", 2.0)
    both = house.path.read_bytes()
    one = revoked(house.path)
    rewrite(house.path, one + bytes(len(both) - len(one)))

    async def story() -> None:
        seen = []
        for data in [both, one] * 10:
            overwrite(house.path, data)
            seen.append(len(await house.aliases()))
        assert seen == [2, 1] * 10

    asyncio.run(story())


def test_what_has_not_changed_is_not_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the files have settled, requests cost a look at them and nothing else."""
    monkeypatch.setattr(Keystore, "read", lambda *_, **__: pytest.fail("it is read again"))
    assert asyncio.run(house.aliases()) == {"ci", "web"}


# Readings that take a while


class Slow(Keystore):
    """A keystore on a disk that can be held up: what was read arrives when it may."""

    def __init__(self, path: Path) -> None:
        """Hold up nothing yet."""
        super().__init__(path)
        self.arrived, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()
        self.threads: list[int] = []

    def read(self, *, patience: float = 0.0) -> Store:
        """Read it, and wait."""
        self.threads.append(threading.get_ident())
        store = super().read(patience=patience)
        self.arrived.set()
        assert self.may_go_on.wait(10)
        return store

    async def hold_up(self, house: House) -> asyncio.Task[set[str]]:
        """Return a request that has read what is in the file now, and waits."""
        house.keyring._keystore = self
        self.may_go_on.clear()
        self.arrived.clear()
        request = asyncio.create_task(house.aliases())
        await asyncio.to_thread(self.arrived.wait, 10)
        return request


def test_a_change_during_a_reading(house: House) -> None:
    """A key that is revoked while a reading is under way is refused although it is in that one."""
    web = house.token("web")
    slow = Slow(house.path)

    async def story() -> None:
        house.create("new")
        first = await slow.hold_up(house)
        house.registry.revoke("web")
        second = asyncio.create_task(house.accepts(web))
        others = [asyncio.create_task(house.aliases()) for _ in range(50)]
        await asyncio.sleep(0.01)
        slow.may_go_on.set()
        assert await first == {"ci", "web", "new"}, "it came before the revocation"
        assert not await second
        assert all([await other == {"ci", "new"} for other in others])
        assert len(slow.threads) <= 3, "requests share a reading"

    asyncio.run(story())


def test_reading_does_not_stop_the_others(house: House) -> None:
    """While the files are read, the event loop goes on; one who gives up harms nobody."""
    slow = Slow(house.path)

    async def story() -> None:
        house.create("new")
        impatient = await slow.hold_up(house)
        patient = asyncio.create_task(house.aliases())
        await asyncio.sleep(0.01)
        impatient.cancel()
        await asyncio.sleep(0.01)
        assert not patient.done()
        slow.may_go_on.set()
        assert await patient == {"ci", "web", "new"}
        assert threading.get_ident() not in slow.threads

    asyncio.run(story())


def test_a_loop_that_ends_during_a_reading(house: House) -> None:
    """The next event loop reads for itself."""
    slow = Slow(house.path)

    async def begin() -> None:
        house.create("new")
        request = await slow.hold_up(house)
        request.cancel()
        await asyncio.wait([request])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()  # unlike asyncio.run, it waits for no reading
    slow.may_go_on.set()
    house.keyring.leave_loop()
    house.registry.revoke("new")
    assert asyncio.run(house.aliases()) == {"ci", "web"}


# Files that cannot be read


def cut(path: Path) -> None:
    """Leave the first half."""
    os.truncate(path, path.stat().st_size // 2)


def damage(path: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def move_away(path: Path) -> None:
    """Take it away."""
    path.rename(path.with_name("moved"))


def replace_by_directory(path: Path) -> None:
    """Put a directory into its place."""
    path.unlink()
    path.mkdir()


def dangle(path: Path) -> None:
    """Put a link that leads nowhere into its place."""
    path.unlink()
    path.symlink_to("nowhere")


SPOILS = {
    "empty": lambda path: os.truncate(path, 0),
    "cut": cut,
    "damaged": damage,
    "a text": lambda path: path.write_text("API keys"),
    "without MAC": lambda path: path.write_bytes(b"\x30\x03\x02\x01\x03"),
    "missing": move_away,
    "a directory": replace_by_directory,
    "a dangling link": dangle,
    "too large": lambda path: os.truncate(path, 17 << 20),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_keystore_that_cannot_be_read(house: House, spoil: Callable[[Path], None]) -> None:
    """The old keys stay in force, nobody waits, and what is readable again is in force at once."""
    data = revoked(house.path)
    ci, web = house.token("ci"), house.token("web")

    async def story() -> None:
        spoil(house.path)
        began = time.monotonic()
        for _ in range(3):
            assert await house.accepts(ci)
            assert await house.accepts(web)
            assert not await house.accepts(b"unknown")
        assert time.monotonic() - began < 0.5
        assert isinstance(house.keyring.failure, ApiKeyError)
        put(house.path, data)
        assert await house.aliases() == {"ci"}
        assert house.keyring.failure is None

    asyncio.run(story())


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Give up the rights of root for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(ORDINARY_USER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", ["file", "directory"])
def test_a_keystore_that_may_not_be_read(public: Path, closed: str) -> None:
    """Losing the right to read the file, or to enter its directory, changes nothing in force."""
    house = House(public / "security" / "keys.p12")
    house.create("ci")
    house.policy.write_text(READER)
    house.path.parent.chmod(0o755)
    house.settle()
    spoiled = house.path if closed == "file" else house.path.parent
    spoiled.chmod(0)
    token = b"unknown"

    async def story() -> None:
        with ordinary_user():
            assert await house.aliases() == {"ci"}
            assert roles(house.keyring) == {"reader"}
            assert not await house.accepts(token)
        assert house.keyring.failure is not None
        assert "denied" in house.keyring.failure.message
        spoiled.chmod(0o700)
        house.registry.revoke("ci")
        assert await house.aliases() == set()

    asyncio.run(story())


class Vanishing(Keystore):
    """A keystore that somebody moves away in the instant before it is opened."""

    def read(self, *, patience: float = 0.0) -> Store:
        """Read what is there."""
        move_away(Path(self.path))
        return super().read(patience=patience)


def test_a_keystore_that_vanishes_at_the_last_moment(house: House) -> None:
    """No file is not the same as no keys, however late it goes away."""
    house.create("new")
    house.keyring._keystore = Vanishing(house.path)
    assert asyncio.run(house.aliases()) == {"ci", "web"}
    assert "There is no keystore" in str(house.keyring.failure)


def test_a_key_that_cannot_be_prepared(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is odd about one key, the others work, and the log says which one it is."""
    house.create("odd", "fine")
    prepare = Credential.__init__

    def fail_for_one(self: Credential, key: ApiKey, *others: object) -> None:
        if key.alias == "odd":
            raise OSError(22, "Invalid argument")
        prepare(self, key, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Credential, "__init__", fail_for_one)
    assert "fine" in asyncio.run(house.aliases())
    assert "odd" not in in_force(house.keyring)
    assert house.keyring.snapshot is not None
    assert house.keyring.snapshot.unreadable == 1
    assert "The key 'odd' is refused: OSError." in house.said


def test_a_keystore_without_keys(house: House) -> None:
    """When the last key is revoked, none is in force."""
    house.registry.revoke("ci", "web")
    assert asyncio.run(house.aliases()) == set()


def test_nothing_is_in_force_before_the_first_good_reading(keystore: Path) -> None:
    """Without a keystore no key is known; when it comes, it is in force for the next request."""
    house = House(keystore)

    async def story() -> None:
        await house.keyring.follow()
        assert house.keyring.snapshot is None
        assert house.keyring.find(b"anything") is None
        house.create("ci")
        assert await house.aliases() == {"ci"}

    asyncio.run(story())


def test_a_reading_that_failed_is_tried_again_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that stays damaged is not read for each request, and not forgotten either."""
    readings: list[float] = []
    read = Keystore.read

    def spy(self: Keystore, *, patience: float = 0.0) -> Store:
        readings.append(house.ticks)
        return read(self, patience=patience)

    monkeypatch.setattr(Keystore, "read", spy)

    async def story() -> None:
        damage(house.path)
        for _ in range(35):
            assert len(await house.aliases()) == 2
            house.ticks += RETRY_SECONDS / 10

    asyncio.run(story())
    assert len(readings) == 4, "at once, and whenever a moment has passed"
    assert RETRY_SECONDS <= 1, "no longer than a moment"
    lasting = [line for line in house.said if line.startswith("The old keys stay: ")]
    assert len(lasting) == 1, "it is said once, and only when it lasts"


def test_a_stock_writer_at_work(house: House) -> None:
    """While a Java-like writer rewrites the file again and again, no request loses its key."""
    ci = house.token("ci")
    versions = [house.path.read_bytes(), revoked(house.path)]
    done = threading.Event()

    def work() -> None:
        number = 0
        while not done.is_set() or number % 2:
            data = versions[number % 2]
            with house.path.open("r+b", buffering=0) as file:
                file.truncate(0)
                time.sleep(0.001)
                file.write(data[:1000])
                time.sleep(0.001)
                file.write(data[1000:])
            time.sleep(0.01)
            number += 1

    writer = threading.Thread(target=work)

    async def story() -> None:
        writer.start()
        seen = set()
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            seen.add(frozenset(await house.aliases()))
            assert await house.accepts(ci)
        done.set()
        await asyncio.to_thread(writer.join)
        assert seen <= {frozenset({"ci", "web"}), frozenset({"ci"})}
        assert await house.aliases() == {"ci"}

    try:
        asyncio.run(story())
    finally:
        done.set()


# The policy


def test_a_policy_is_in_force_for_the_next_request(ruled: House) -> None:
    """Edited rules count at once: roles, and limits."""

    async def story() -> None:
        ruled.policy.write_text("[roles.writer]\nallow = ['POST /**']\n")
        await ruled.aliases()
        assert roles(ruled.keyring) == {"writer"}
        put(ruled.policy, LIMITED.encode())
        await ruled.aliases()
        assert roles(ruled.keyring) == {"reader"}
        assert ruled.keyring.snapshot is not None
        assert ruled.keyring.snapshot.policy.rate_limit.requests_per_minute == 7

    asyncio.run(story())


def test_a_policy_that_comes_later(house: House) -> None:
    """A policy that is laid beside the keystore of a running gateway counts from then on."""
    assert roles(house.keyring) is None

    async def story() -> None:
        house.policy.write_text(READER)
        await house.aliases()
        assert roles(house.keyring) == {"reader"}

    asyncio.run(story())


POLICIES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, 9),
    "comments only": lambda path: path.write_text("# The rules come tomorrow.\n"),
    "without roles": lambda path: path.write_text("[rate_limit]\nburst_per_second = 1\n"),
    "mistyped": lambda path: path.write_text(READER.replace("allow", "alow")),
    "a bad rule": lambda path: path.write_text(READER.replace("GET", "get")),
    "no TOML": lambda path: path.write_text("<roles/>"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "missing": move_away,
    "a directory": replace_by_directory,
    "a dangling link": dangle,
    "too large": lambda path: os.truncate(path, 2 << 20),
}


@pytest.mark.parametrize("spoil", POLICIES.values(), ids=POLICIES.keys())
def test_a_policy_that_does_not_count(ruled: House, spoil: Callable[[Path], object]) -> None:
    """The old rules stay, a key can still be made and revoked, and better rules count at once."""
    web = ruled.token("web")

    async def story() -> None:
        spoil(ruled.policy)
        assert await ruled.accepts(web)
        assert roles(ruled.keyring) == {"reader"}
        assert ruled.keyring.failure is not None
        ruled.registry.revoke("web")
        assert not await ruled.accepts(web)
        ruled.create("new")
        assert await ruled.aliases() == {"ci", "new"}
        assert roles(ruled.keyring) == {"reader"}
        assert ruled.keyring.failure is not None
        put(ruled.policy, b"[roles.writer]\nallow = []\n")
        await ruled.aliases()
        assert roles(ruled.keyring) == {"writer"}
        assert ruled.keyring.failure is None

    asyncio.run(story())


def test_stricter_rules_beside_a_damaged_keystore(ruled: House) -> None:
    """Rules that can be read count, whatever the keystore is like."""

    async def story() -> None:
        damage(ruled.path)
        ruled.policy.write_text("[roles]\n")
        assert await ruled.aliases() == {"ci", "web"}
        assert roles(ruled.keyring) == set()
        assert ruled.keyring.failure is not None

    asyncio.run(story())


def test_a_table_of_roles_without_any(ruled: House) -> None:
    """Rules that define no role at all, on purpose, are rules: they allow nothing."""
    ruled.policy.write_text("[roles]\n")
    asyncio.run(ruled.aliases())
    assert roles(ruled.keyring) == set()


@pytest.mark.parametrize("spoil", [lambda path: os.truncate(path, 0), Path.unlink])
def test_reading_anew_takes_the_policy_at_its_word(
    ruled: House, spoil: Callable[[Path], None]
) -> None:
    """Whoever asks to read everything anew means that there are no roles any more."""
    spoil(ruled.policy)
    ruled.keyring.read()
    assert roles(ruled.keyring) == {"reader"}
    ruled.keyring.read(anew=True)
    assert roles(ruled.keyring) is None
    assert ruled.keyring.failure is None


def test_reading_anew_does_not_take_nonsense(ruled: House) -> None:
    """A policy that is broken does not count even then, nor does a missing one that was named."""
    ruled.policy.write_text("[roles")
    ruled.keyring.read(anew=True)
    assert roles(ruled.keyring) == {"reader"}
    named = House(ruled.path, policy=str(ruled.policy))
    ruled.policy.write_text(READER)
    named.keyring.read()
    ruled.policy.unlink()
    named.keyring.read(anew=True)
    assert roles(named.keyring) == {"reader"}


@pytest.mark.parametrize("text", [None, "[roles"])
def test_a_named_policy_must_be_there_first(house: House, text: str | None) -> None:
    """With rules that somebody asked for and that cannot be read, no request passes at all."""
    if text is not None:
        house.policy.write_text(text)
    other = House(house.path, policy=str(house.policy))
    asyncio.run(other.keyring.follow())
    assert other.keyring.snapshot is None
    assert other.said[0].startswith("No request is let through: ")


# What is in the keys


def test_entries_that_cannot_be_read_are_counted(house: House) -> None:
    """An entry that a stock server stumbles over is no key, and harms no other."""
    add_entry(house, "odd", b"key__someday")
    add_entry(house, "none", b"")
    assert asyncio.run(house.aliases()) == {"ci", "web"}
    assert house.keyring.snapshot is not None
    assert house.keyring.snapshot.unreadable == 2
    assert house.keyring.find(b"") is None


def add_entry(house: House, alias: str, value: bytes) -> None:
    """Put an entry with any value into the keystore."""
    house.registry._keystore.update(
        lambda store: store.add(
            f"{ENTRY_PREFIX}{alias}", value, created_ms=0, random_bytes=os.urandom
        )
    )


def test_entries_are_decrypted_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one key of many changes, only that one is decrypted."""
    decrypted: list[str | None] = []
    values = Store.values

    def spy(self: Store, bags: Iterable[Bag], *arguments: object) -> object:
        bags = list(bags)
        decrypted.extend(bag.alias for bag in bags)
        return values(self, bags, *arguments)  # type: ignore[arg-type]

    house.create("new")
    token = house.token("ci")
    monkeypatch.setattr(Store, "values", spy)
    assert asyncio.run(house.aliases()) == {"ci", "web", "new"}
    assert decrypted == [f"{ENTRY_PREFIX}new"]
    decrypted.clear()
    os.utime(house.path)
    house.policy.write_text(READER)
    assert asyncio.run(house.accepts(token))
    assert decrypted == []


def test_what_was_removed_is_remembered_for_the_log(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log can say whose a revoked key was, until it comes back; the memory for it ends."""
    web, ci = house.token("web"), house.token("ci")
    before = house.path.read_bytes()
    assert house.keyring.removed(web) is None
    house.registry.revoke("web", "ci")
    asyncio.run(house.aliases())
    known = house.keyring.removed(web)
    assert known is not None
    assert known.alias == "web"
    put(house.path, before)
    asyncio.run(house.aliases())
    assert house.keyring.removed(web) is None
    assert MOST_REMOVED <= 10_000
    monkeypatch.setattr(keyring_module, "MOST_REMOVED", 1)
    house.registry.revoke("web", "ci")
    asyncio.run(house.aliases())
    assert sum(house.keyring.removed(token) is not None for token in (web, ci)) == 1


def test_no_secret_in_any_text(ruled: House) -> None:
    """Neither the parts of a keyring, nor its errors, nor what it says, show a key."""
    tokens = [ruled.token(alias).decode() for alias in ("ci", "web")]
    ruled.registry.revoke("web")
    asyncio.run(ruled.aliases())
    damage(ruled.path)
    asyncio.run(ruled.aliases())
    keyring = ruled.keyring
    assert keyring.snapshot is not None
    credential = keyring.find(tokens[0].encode())
    shown = [
        repr(one)
        for one in (
            keyring,
            vars(keyring),
            keyring.snapshot,
            credential,
            keyring.failure,
            ruled.said,
        )
    ]
    assert "Credential('ci')" in shown[3]
    assert not [token for token in tokens for text in shown if token in text]


@pytest.mark.parametrize(
    ("name", "local", "instant"),
    [
        ("UTC", "2031-06-30T12:00:00", "2031-06-30T12:00:00Z"),
        ("Asia/Kolkata", "2031-06-30T12:00:00", "2031-06-30T06:30:00Z"),
        ("Pacific/Kiritimati", "2031-01-01T00:00:00", "2030-12-31T10:00:00Z"),
        ("America/New_York", "2031-01-15T23:59:59", "2031-01-16T04:59:59Z"),
        ("America/New_York", "2031-07-15T23:59:59", "2031-07-16T03:59:59Z"),
        ("Europe/Paris", "2027-10-31T02:30:00", "2027-10-31T00:30:00Z"),
        ("Europe/Paris", "2027-10-31T03:00:00", "2027-10-31T02:00:00Z"),
        ("Europe/Paris", "2027-03-28T03:00:00", "2027-03-28T01:00:00Z"),
    ],
)
def test_expiry_is_what_the_clock_shows_at_an_instant(
    zone: Callable[[str], None], name: str, local: str, instant: str
) -> None:
    """A key ends when the clock of the server shows its expiry."""
    zone(name)
    key = ApiKey("ci", Secret("secret"), datetime.fromisoformat(local), None)
    wall = ServerClock(HERE).wall(datetime.fromisoformat(instant).timestamp())
    assert Credential(key, b"secret", STOCK).expires == wall


def test_an_edited_expiry_is_in_force(house: House) -> None:
    """A key whose life was cut short ends with it."""
    soon = after(at(datetime.now(UTC)), timedelta(minutes=5))
    house.registry.edit("web", expires_on=soon)
    web = house.token("web")
    assert asyncio.run(house.accepts(web))
    credential = house.keyring.find(web)
    assert credential is not None
    assert credential.expires == wall_seconds(soon)
