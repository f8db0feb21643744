"""
Who may do what, with the real command: other users, root for a service, traps (SECURITY.md).

What is refused is refused at once, in one line, with the reason, and nothing is changed.
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mounts
from conftest import AS_ORDINARY_USER, COMMAND, ORDINARY_USER, Run
from faults import RECORD, run_traced
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import WriteFailedError
from metricshub_apikey.keystore.keystore import Keystore

SERVICE = 1
"""A user with a name, as every system has it, for the service."""

GROUP = 12345
"""A group that nobody is in but those who are started in it, as Kubernetes' `fsGroup`."""

AS_USER = (
    AS_ORDINARY_USER.partition("os.setgroups")[0]
    + """
user, *groups = map(int, sys.argv.pop(1).split(","))
os.setgroups(groups)
os.setgid(user)
os.setuid(user)
sys.exit(run(sys.argv[1:]))
"""
)

CREATE = ["create", "new"]
REVOKE = ["revoke", "old"]

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def root() -> None:
    """Go on only as root: the tests give files to other users."""
    mounts.needs_root()


@pytest.fixture
def file(public: Path) -> Path:
    """Return a keystore of root's with the key `old`, in a directory that all may enter."""
    path = public / "security" / "k.p12"
    ApiKeys(Keystore(path)).create("old")
    path.parent.chmod(0o755)
    return path


def lock_of(file: Path) -> Path:
    """Return the lock file of a keystore."""
    return file.with_name(f".{file.name}.lock")


def as_user(user: int, *groups: int) -> list[str]:
    """Return the command as that user runs it, who is in his own group and in these."""
    return [sys.executable, "-c", AS_USER, ",".join(map(str, (user, *groups)))]


def give(user: int, *paths: Path, group: int | None = None) -> None:
    """Give files to a user."""
    for path in paths:
        os.chown(path, user, user if group is None else group, follow_symlinks=False)


def give_all(user: int, file: Path) -> None:
    """Give the keystore, its lock file and their directory to a user."""
    give(user, file.parent, *file.parent.iterdir())


def owner(path: Path) -> tuple[int, int]:
    """Return the user and the group to which *path* belongs."""
    status = path.lstat()
    return status.st_uid, status.st_gid


def mode(path: Path) -> int:
    """Return the rights of *path*."""
    return stat.S_IMODE(path.stat().st_mode)


def aliases(file: Path) -> list[str]:
    """Return the aliases; a damaged keystore raises."""
    return [key.alias for key in ApiKeys(Keystore(file)).list()]


def shape(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return all that can be said of what is in a directory, to compare it with later."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        about = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        # What is made in a directory, such as a lock file, changes its time.
        found[str(path)] = about[:-1] if stat.S_ISDIR(status.st_mode) else (*about, content)
    return found


def names(directory: Path) -> set[str]:
    """Return what is in a directory, the record of who did what aside."""
    return set(os.listdir(directory)) - RECORD


def refused(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Check that the command failed in one line, with at most a hint; return both."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    error, *rest = done.stderr.splitlines()
    assert error.startswith("Error: ")
    if not rest:
        return error, ""
    (hint,) = rest
    assert hint.startswith("Hint: ")
    return error, hint


def denied(done: subprocess.CompletedProcess[str], file: Path, user: int | None) -> None:
    """Check that access was denied with the hint to become *user*; None means root knows more."""
    error, hint = refused(done)
    assert error == f"Error: Access denied to {file}."
    if user is None:
        assert "lsattr" in hint
    else:
        name = pwd.getpwuid(user).pw_name
        assert hint.startswith(f"Hint: Run the command as the file's owner: sudo -u {name} ")


# Ordinary users


@pytest.mark.parametrize("locked_before", [True, False])
def test_who_may_read_may_not_write(run: Run, file: Path, *, locked_before: bool) -> None:
    """A keystore that all may read is listed; a change names the owner and changes nothing."""
    give(SERVICE, *file.parent.iterdir())
    file.chmod(0o644)
    if not locked_before:
        lock_of(file).unlink()
    before = shape(file.parent)
    somebody = as_user(ORDINARY_USER)
    assert run("list", "-q", "--keystore", file, command=somebody).stdout == "old\n"
    for command in (CREATE, REVOKE):
        denied(run(*command, "--keystore", file, command=somebody), file, SERVICE)
    assert shape(file.parent) == before


@pytest.mark.parametrize("locked_before", [True, False])
def test_a_read_only_directory(run: Run, file: Path, *, locked_before: bool) -> None:
    """Where the owner made the directory read-only a list works, and a change is refused."""
    if not locked_before:
        lock_of(file).unlink()
    give_all(SERVICE, file)
    file.parent.chmod(0o555)
    before = shape(file.parent)
    service = as_user(SERVICE)
    assert run("list", "-q", "--keystore", file, command=service).stdout == "old\n"
    for command in (CREATE, REVOKE):
        error, hint = refused(run(*command, "--keystore", file, command=service))
        assert error == f"Error: Access denied to {file}."
        assert f"chmod u+rw {file}" not in hint, "it has that right; the directory is what it is"
    assert shape(file.parent) == before


def test_a_read_only_file(run: Run, file: Path) -> None:
    """What its owner made read-only is not replaced behind his back; a list works."""
    give_all(SERVICE, file)
    file.chmod(0o400)
    before = shape(file.parent)
    service = as_user(SERVICE)
    assert run("list", "-q", "--keystore", file, command=service).stdout == "old\n"
    error, _ = refused(run(*REVOKE, "--keystore", file, command=service))
    assert error == f"Error: Access denied to {file}."
    assert shape(file.parent) == before


def test_a_new_keystore_in_root_s_directory(run: Run, public: Path) -> None:
    """Nobody makes a keystore, or directories for it, where he has no right to."""
    for file in (public / "k.p12", public / "a" / "b" / "k.p12"):
        denied(run(*CREATE, "--keystore", file, command=as_user(ORDINARY_USER)), file, 0)
    assert list(public.iterdir()) == []


# Root for a service


@pytest.mark.parametrize("locked_before", [True, False])
def test_root_keeps_what_the_service_has(run: Run, file: Path, *, locked_before: bool) -> None:
    """Owner, group, mode, access list and attributes stay, and the service goes on writing."""
    mounts.needs("setfacl")
    if not locked_before:
        lock_of(file).unlink()
    give_all(SERVICE, file)
    give(SERVICE, file, group=GROUP)
    file.chmod(0o640)
    subprocess.run(["setfacl", "-m", f"u:{ORDINARY_USER}:r,g:{GROUP}:r", file], check=True)
    for name in ("user.note", "security.note", "trusted.note"):
        os.setxattr(file, name, b"kept")
    attributes = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    assert set(attributes) >= {"system.posix_acl_access", "security.note", "trusted.note"}
    kept = (owner(file), mode(file), attributes)

    assert run("create", "by-root", "--keystore", file).returncode == 0

    now = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    assert (owner(file), mode(file), now) == kept
    group = SERVICE if locked_before else GROUP
    assert (owner(lock_of(file)), mode(lock_of(file))) == ((SERVICE, group), 0o600)
    reader = run("list", "-q", "--keystore", file, command=as_user(ORDINARY_USER))
    assert reader.stdout == "old\nby-root\n", "the access list still lets him read"
    done = run(*CREATE, "--keystore", file, command=as_user(SERVICE, GROUP))
    assert (done.returncode, done.stderr) == (0, "")
    assert aliases(file) == ["old", "by-root", "new"]
    acl = "system.posix_acl_access"
    assert os.getxattr(file, acl) == attributes[acl]
    assert owner(file) == (SERVICE, GROUP)


def test_root_starts_for_the_service(run: Run, public: Path) -> None:
    """A keystore that root makes in the service's directory is the service's to use."""
    home = public / "home"
    home.mkdir(mode=0o700)
    give(SERVICE, home)
    file = home / "lib" / "security" / "k.p12"
    assert run("create", "by-root", "--keystore", file).returncode == 0
    made = [file, lock_of(file), file.parent, file.parent.parent]
    assert {owner(path) for path in made} == {(SERVICE, SERVICE)}
    assert [mode(path) for path in made] == [0o600, 0o600, 0o700, 0o700]
    service = as_user(SERVICE)
    for command in (CREATE, ["revoke", "by-root"]):
        assert run(*command, "--keystore", file, command=service).returncode == 0
    assert aliases(file) == ["new"]


def test_root_and_service_in_turn(run: Run, file: Path) -> None:
    """Whoever of both writes, the other one can go on."""
    give_all(SERVICE, file)
    for number, command in enumerate([COMMAND, as_user(SERVICE)] * 2):
        done = run("create", f"key-{number}", "--keystore", file, command=command)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(aliases(file)) == 5
    assert {owner(path) for path in file.parent.iterdir()} == {(SERVICE, SERVICE)}


def test_root_without_the_right_to_give_files_away(run: Run, file: Path) -> None:
    """A root that may not chown, as in a container, does not lock the service out."""
    mounts.needs("setpriv")
    lock_of(file).unlink()
    give_all(SERVICE, file)
    before = shape(file.parent)
    weak_root = ["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", *COMMAND]
    refused(run(*CREATE, "--keystore", file, command=weak_root))
    assert shape(file.parent) == before, "no lock file that the service cannot open"
    done = run(*CREATE, "--keystore", file, command=as_user(SERVICE))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("call", ["fchown:signal=KILL:when=1", "fchown:error=EPERM:when=1"])
def test_root_stopped_while_making_the_lock_file(
    run: Run, file: Path, environment: dict[str, str], tmp_path: Path, call: str
) -> None:
    """Root's first write, killed or failed in the middle, does not lock the service out."""
    mounts.needs("strace")
    lock_of(file).unlink()
    give_all(SERVICE, file)
    arguments = [*CREATE, "--keystore", str(file)]
    run_traced(arguments, log=tmp_path / "log", environment=environment, inject=call)
    assert aliases(file) == ["old"]
    for command in (COMMAND, as_user(SERVICE)):
        done = run("create", str(len(command)), "--keystore", file, command=command)
        assert (done.returncode, done.stderr) == (0, "")
    assert owner(lock_of(file)) == (SERVICE, SERVICE)
    assert names(file.parent) == {file.name, lock_of(file).name}


# What stops even root


@pytest.mark.parametrize("what", ["keystore", "directory"])
def test_an_immutable_keystore(run: Run, public: Path, what: str) -> None:
    """What is immutable stays as it is, and root is told where to look."""
    with mounts.Disk(public, "ext4") as disk:
        file = disk.root / "security" / "k.p12"
        ApiKeys(Keystore(file)).create("old")
        before = shape(file.parent)
        with disk.immutable(file if what == "keystore" else file.parent):
            for command in (CREATE, REVOKE):
                denied(run(*command, "--keystore", file), file, None)
            assert shape(file.parent) == before
            assert run("list", "-q", "--keystore", file).stdout == "old\n"
        assert run(*CREATE, "--keystore", file).returncode == 0


def test_a_read_only_file_system(run: Run, public: Path, keystore: Path) -> None:
    """Neither a keystore nor a key's file is written, or begun, on a read-only file system."""
    with mounts.Disk(public, "ext4") as disk:
        file = disk.root / "security" / "k.p12"
        ApiKeys(Keystore(file)).create("old")
        before = shape(disk.root)
        first, out = disk.root / "other" / "k.p12", disk.root / "key"
        reason = "Read-only file system."
        with disk.read_only():
            assert run("list", "-q", "--keystore", file).stdout == "old\n"
            for path in (file, first):
                error, _ = refused(run(*CREATE, "--keystore", path))
                assert error == f"Error: {path} is not changed: {reason}"
            error, _ = refused(run(*CREATE, "--out", out))
            assert error == f"Error: {out} cannot be made: {reason}"
        assert shape(disk.root) == before
        assert not keystore.exists()


def test_a_keystore_mounted_alone(run: Run, file: Path, public: Path) -> None:
    """A single mounted file is read, but not replaced; the hint says what to mount."""
    point = public / "mounted" / "k.p12"
    point.parent.mkdir()
    point.touch()
    before = file.read_bytes()
    with mounts.mounted(point, "--bind", file):
        assert run("list", "-q", "--keystore", point).stdout == "old\n"
        for command in (CREATE, REVOKE):
            error, hint = refused(run(*command, "--keystore", point))
            assert error == f"Error: {point} cannot be replaced: it is mounted as a single file."
            assert hint == "Hint: Mount the directory that holds it instead."
        assert names(point.parent) == {point.name, lock_of(point).name}
    assert file.read_bytes() == before


# Directories


def test_a_directory_of_a_group(run: Run, public: Path) -> None:
    """In a volume as Kubernetes mounts it (root:fsGroup 2770) a user of the group can work."""
    volume = public / "volume"
    volume.mkdir()
    give(0, volume, group=GROUP)
    volume.chmod(0o2770)
    file = volume / "k.p12"
    user = as_user(SERVICE, GROUP)
    for command in (["create", "old"], CREATE, REVOKE):
        done = run(*command, "--keystore", file, command=user)
        assert (done.returncode, done.stderr) == (0, "")
    assert (owner(file), mode(file)) == ((SERVICE, GROUP), 0o600)
    assert run("create", "by-root", "--keystore", file).returncode == 0
    assert owner(file) == (SERVICE, GROUP)
    assert run("revoke", "new", "--keystore", file, command=user).returncode == 0
    assert aliases(file) == ["by-root"]
    other = as_user(ORDINARY_USER, GROUP)
    denied(run("list", "--keystore", file, command=other), file, SERVICE)
    denied(run(*CREATE, "--keystore", file, command=other), file, SERVICE)


def test_an_owner_that_cannot_be_kept(run: Run, file: Path) -> None:
    """Who may write somebody else's keystore as one of its group does not take it over."""
    give(0, file.parent, *file.parent.iterdir(), group=GROUP)
    file.parent.chmod(0o2770)
    for path in file.parent.iterdir():
        path.chmod(0o660)
    before = shape(file.parent)
    user = as_user(SERVICE, GROUP)
    assert run("list", "-q", "--keystore", file, command=user).stdout == "old\n"
    for command in (CREATE, REVOKE):
        error, hint = refused(run(*command, "--keystore", file, command=user))
        assert error == f"Error: {file} is not changed: its owner and group could not be kept."
        assert hint == "Hint: Run the command as the file's owner or as root."
    assert shape(file.parent) == before


def test_a_group_that_cannot_be_kept(run: Run, file: Path) -> None:
    """The same where the keystore is one's own, but of a group that one is not in."""
    give_all(SERVICE, file)
    give(SERVICE, file, group=GROUP)
    before = shape(file.parent)
    error, hint = refused(run(*CREATE, "--keystore", file, command=as_user(SERVICE)))
    assert "owner and group could not be kept" in error
    assert "root" in hint
    assert shape(file.parent) == before


@pytest.mark.parametrize("first", [True, False])
def test_a_directory_that_all_may_write(run: Run, file: Path, *, first: bool) -> None:
    """Where everybody may replace files nobody's keystore is changed, not even a first one made."""
    if first:
        for path in file.parent.iterdir():
            path.unlink()
    file.parent.chmod(0o777)
    before = shape(file.parent)
    error, hint = refused(run(*CREATE, "--keystore", file))
    assert error.endswith(" is not changed: everybody may replace files in its directory.")
    assert hint.endswith(f"chmod o-w {file.parent}")
    assert shape(file.parent) == before


@pytest.mark.parametrize("foreign", ["keystore", "lock"])
def test_a_sticky_directory(run: Run, file: Path, foreign: str) -> None:
    """In a directory like /tmp one's own keystore works; a file of somebody else's is a trap."""
    file.parent.chmod(0o1777)
    assert run(*CREATE, "--keystore", file).returncode == 0
    give(ORDINARY_USER, file if foreign == "keystore" else lock_of(file))
    before = shape(file.parent)
    error, hint = refused(run(*REVOKE, "--keystore", file))
    assert "it or its lock file belongs to another user" in error
    assert hint == "Hint: Keep the keystore in a directory of its own."
    assert shape(file.parent) == before


def test_the_directory_of_somebody_else(run: Run, file: Path) -> None:
    """Neither root nor the keystore's owner changes it in the directory of a third one."""
    give(SERVICE, *file.parent.iterdir())
    give(ORDINARY_USER, file.parent)
    file.parent.chmod(0o775)
    before = shape(file.parent)
    for command in (COMMAND, as_user(SERVICE, ORDINARY_USER)):
        change = run(*CREATE, "--keystore", file, command=command)
        if command == COMMAND:
            error, hint = refused(change)
            assert error.endswith(" is not changed: its directory belongs to another user.")
            assert str(file.parent) in hint
        else:
            refused(change)
    assert shape(file.parent) == before


# Links


def test_a_link_to_the_service_s_keystore(run: Run, file: Path, public: Path) -> None:
    """Root writes through the packages' own links: they stay, and what is the service's does."""
    give_all(SERVICE, file)
    (public / "linked").symlink_to("security")
    link = public / "link.p12"
    link.symlink_to("linked/k.p12")
    assert run(*CREATE, "--keystore", link).returncode == 0
    assert os.readlink(link) == "linked/k.p12"
    assert os.readlink(public / "linked") == "security"
    assert owner(file) == (SERVICE, SERVICE)
    assert names(file.parent) == {file.name, lock_of(file).name}
    assert aliases(file) == ["old", "new"]


def test_a_stranger_s_link_to_root_s_keystore(run: Run, file: Path, public: Path) -> None:
    """A service cannot have root write elsewhere by a link in the place of its keystore."""
    theirs = public / "service"
    theirs.mkdir()
    link = theirs / "k.p12"
    link.symlink_to(file)
    give(SERVICE, theirs, link)
    before = shape(file.parent)
    for command in (CREATE, REVOKE):
        error, hint = refused(run(*command, "--keystore", link))
        assert error.startswith(f"Error: {link} is not changed: it is another user's link")
        assert str(file) in hint
    assert shape(file.parent) == before


def test_a_link_to_nothing(run: Run, public: Path) -> None:
    """A dangling link lists no keys; its target, with its directory, is made where it leads."""
    link = public / "link.p12"
    link.symlink_to("later/k.p12")
    assert run("list", "--keystore", link).stdout == "No API keys found.\n"
    assert not (public / "later").exists()
    assert run(*CREATE, "--keystore", link).returncode == 0
    assert os.readlink(link) == "later/k.p12"
    assert aliases(public / "later" / "k.p12") == ["new"]


# Traps that a service could lay for root


@pytest.fixture
def victim(public: Path) -> Path:
    """Return a file of root's that must stay as it is."""
    path = public / "passwd"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    path.chmod(0o644)
    return path


def make_socket(path: Path) -> None:
    """Make a socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


TRAPS: dict[str, Callable[[Path, Path], object]] = {
    "a link to something": lambda path, victim: path.symlink_to(victim),
    "a link to nothing": lambda path, victim: path.symlink_to(victim.with_name("nothing")),
    "a hard link": lambda path, victim: path.hardlink_to(victim),
    "a directory": lambda path, _: path.mkdir(),
    "a fifo": lambda path, _: os.mkfifo(path),
    "a socket": lambda path, _: make_socket(path),
    "a device": lambda path, _: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
}
"""What may be planted under a name that the command uses, some of it leading to a victim."""


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_as_lock_file(run: Run, file: Path, victim: Path, trap: str) -> None:
    """Root neither follows what is planted as lock file, nor gives it away, nor waits for it."""
    lock_of(file).unlink()
    TRAPS[trap](lock_of(file), victim)
    give(SERVICE, file.parent, file)
    if trap != "a hard link":
        give(SERVICE, lock_of(file))
    before = shape(victim.parent)
    done = run(*CREATE, "--keystore", file)
    if trap == "a hard link":  # locking it harms nobody
        assert done.returncode == 0
        assert shape(victim.parent)[str(victim)] == before[str(victim)]
        return
    error, hint = refused(done)
    assert error == f"Error: {file} cannot be locked: its lock file is not a regular file."
    assert hint.endswith(lock_of(file).name)
    assert shape(victim.parent) == before, "and nothing is made where a link leads"


def test_a_socket_as_keystore(run: Run, file: Path, victim: Path) -> None:
    """A socket is refused at once as other odd files are, by readers and writers, and stays."""
    file.unlink()
    make_socket(file)
    before = shape(victim.parent)
    for command in (["list"], CREATE, REVOKE):
        error, _ = refused(run(*command, "--keystore", file))
        assert error == f"Error: {file} is not a regular file."
    assert shape(victim.parent) == before


@pytest.mark.parametrize("trap", [name for name in TRAPS if name != "a fifo"])  # it would hang
def test_a_trap_as_temporary_file(file: Path, victim: Path, trap: str) -> None:
    """If somebody guessed the temporary file's name, what is planted is not written to."""
    temporary = file.with_name(f".{file.name}.{bytes(8).hex()}.tmp")
    before = shape(victim.parent)

    def plant(count: int) -> bytes:
        """Be random, but for the name: plant something there at the last moment."""
        if count != 8:
            return os.urandom(count)
        if not os.path.lexists(temporary):
            TRAPS[trap](temporary, victim)
        return bytes(count)

    with pytest.raises(WriteFailedError, match="is not changed: File exists"):
        ApiKeys(Keystore(file, random_bytes=plant)).create("new")
    assert os.path.lexists(temporary), "it is somebody else's"
    after = shape(victim.parent)
    after.pop(str(temporary), None)
    assert after == before
    if temporary.is_dir():
        temporary.rmdir()
    assert ApiKeys(Keystore(file)).create("new").alias == "new"
    assert names(file.parent) == {file.name, lock_of(file).name}


def test_a_planted_link_as_key_file(run: Run, file: Path, victim: Path) -> None:
    """`--out` in a directory of somebody else's follows no link and overwrites nothing."""
    out = file.with_name("key")
    for trap in ("a link to something", "a link to nothing", "a hard link", "a fifo"):
        TRAPS[trap](out, victim)
        before = shape(victim.parent)
        error, _ = refused(run(*CREATE, "--keystore", file, "--out", out))
        assert error == f"Error: {out} exists already; it is not overwritten."
        assert shape(victim.parent) == before
        out.unlink()


# Around it


@pytest.mark.parametrize("umask", [0o000, 0o777])
@pytest.mark.parametrize("user", [0, SERVICE])
def test_modes_whatever_the_umask(run: Run, public: Path, umask: int, user: int) -> None:
    """Keystore, lock, new directories and the key's file are private, and can be used again."""
    give(user, public)
    file, out = public / "a" / "security" / "k.p12", public / "key"
    command = as_user(user) if user else COMMAND
    done = run(*CREATE, "--keystore", file, "--out", out, command=command, umask=umask)
    assert (done.returncode, done.stderr) == (0, "")
    made = [file, lock_of(file), out, file.parent, file.parent.parent]
    assert [mode(path) for path in made] == [0o600, 0o600, 0o600, 0o700, 0o700]
    assert {owner(path) for path in made} == {(user, user)}
    file.chmod(0o640)
    done = run("revoke", "new", "--keystore", file, command=command, umask=umask)
    assert (done.returncode, done.stderr) == (0, "")
    assert mode(file) == 0o640


def test_a_file_system_without_locks(
    file: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Where the kernel has no lock to give, nothing is changed, and the line says why."""
    mounts.needs("strace")
    before = shape(file.parent)
    done = run_traced(
        [*CREATE, "--keystore", str(file)],
        log=tmp_path / "log",
        environment=environment,
        inject="flock:error=ENOLCK",
    )
    error, hint = refused(done)
    assert error == f"Error: {file} cannot be locked: No locks available."
    assert hint == "Hint: Keep the keystore on a file system that supports locks."
    assert shape(file.parent) == before
