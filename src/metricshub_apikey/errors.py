"""Everything this package raises on purpose: one sentence, and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import ClassVar


def _plain_program(*, elsewhere: bool) -> Sequence[str]:
    del elsewhere
    return ("apikey",)


_program: list[Callable[..., Sequence[str]]] = [_plain_program]


def use_program(program: Callable[..., Sequence[str]]) -> None:
    """
    Let hints name the program as it was started.

    Args:
        program: Returns its words, with the options that name the keystore; called only when
            something goes wrong. With `elsewhere=True` another user will run it, and the
            arguments are among the words.
    """
    _program[0] = program


def own_command(command: str, *names: str) -> str:
    """
    Return a command line of this program that works when it is pasted into a shell.

    Args:
        command: The command, with options that need no quotes: `rotate --finish`.
        names: Its arguments, whatever is in them.
    """
    import shlex

    words = [*_program[0](elsewhere=False), *command.split()]
    return shlex.join([*words, "--", *names] if names else words)


def same_command() -> str:
    """Return this command line once more, for another user's shell."""
    import shlex

    return shlex.join(_program[0](elsewhere=True))


def shell_command(*words: str) -> str:
    """Return a line for a shell, each word quoted where it needs that."""
    import shlex

    return shlex.join(words)


class ApiKeyError(Exception):
    """
    What went wrong and where, in one sentence, never with a secret in it.

    Args:
        message: The sentence shown to the user.
        hint: What to do next, where there is something useful to say.
    """

    code: ClassVar[str] = "error"
    """A stable name for scripts: the `code` of the command line's JSON errors."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidArgumentError(ApiKeyError):
    """An alias, an expiry or a password that cannot be used."""

    code = "invalid-argument"


class KeyExistsError(ApiKeyError):
    """The alias is taken."""

    code = "key-exists"


class KeySuspendedError(KeyExistsError):
    """The key is suspended, so the alias is taken, and the key cannot be used."""

    code = "key-suspended"


class KeyNotFoundError(ApiKeyError):
    """No API key has this alias."""

    code = "key-not-found"


class ExpiryInPastError(ApiKeyError):
    """The key would be dead on arrival."""

    code = "expiry-in-past"


class RotationPendingError(ApiKeyError):
    """The key has just been replaced, and the old one still works."""

    code = "rotation-pending"


class NotRotatedError(ApiKeyError):
    """There is no old key that a rotation has left."""

    code = "not-rotated"


class PolicyError(ApiKeyError):
    """The policy file cannot be used: the message names its line and key."""

    code = "policy-invalid"


class PolicyBreachError(ApiKeyError):
    """The key would break a rule of the policy file."""

    code = "policy-breach"


class ManifestError(ApiKeyError):
    """The list of keys to apply cannot be used."""

    code = "manifest-invalid"


class ActivityError(ApiKeyError):
    """The record of who did what cannot be read or written."""

    code = "activity-failed"


class NotAgreedError(ApiKeyError):
    """The user did not say yes, so nothing was changed."""

    code = "not-agreed"


class IncompleteSearchError(ApiKeyError):
    """Keys may be where the search could not look."""

    code = "search-incomplete"


class OvertakenError(ApiKeyError):
    """Another run changed the same key while this one was being handed out."""

    code = "overtaken"


class FollowUpError(ApiKeyError):
    """The key is in force and was handed out, but the command that was to follow has failed."""

    code = "follow-up-failed"


class NotDeliveredError(ApiKeyError):
    """The new key could not be handed out, so it was taken back."""

    code = "key-not-delivered"


class OutputError(ApiKeyError):
    """Standard output, or the file given for it, cannot be written."""

    code = "output-failed"


class ReaderGoneError(OutputError):
    """The program that read standard output has stopped, as `head -1` does."""


class PasswordError(ApiKeyError):
    """The keystore's password, or the file that should hold it, cannot be used."""

    code = "password"


class EntryUnreadableError(ApiKeyError):
    """One entry cannot be read; the others can."""

    code = "entry-unreadable"


class KeystoreError(ApiKeyError):
    """Something about the keystore file."""

    code = "keystore"


class NotAKeystoreError(KeystoreError):
    """The file is not a PKCS#12 file at all."""

    code = "not-a-keystore"


class NoKeystoreError(KeystoreError):
    """There is no file where the keystore should be."""

    code = "no-keystore"


class DamagedError(KeystoreError):
    """Wrong password and damage look the same: the MAC does not fit."""

    code = "keystore-damaged"


class UnsupportedError(KeystoreError):
    """A keystore of a kind that is refused on purpose."""

    code = "keystore-unsupported"


class LimitError(KeystoreError):
    """The file asks for more than a limit allows."""

    code = "limit-exceeded"


class AccessDeniedError(KeystoreError):
    """The operating system says no."""

    code = "access-denied"


class UnsafeLocationError(KeystoreError):
    """Another user could swap the file while it is replaced."""

    code = "unsafe-location"


class KeystoreBusyError(KeystoreError):
    """Another writer held the lock, or kept changing the file, for the whole timeout."""

    code = "keystore-busy"


class ReadFailedError(KeystoreError):
    """The file is there, but reading it failed."""

    code = "read-failed"


class WriteFailedError(KeystoreError):
    """Nothing was changed: the new file could not be put in place."""

    code = "write-failed"


class NotConfirmedError(KeystoreError):
    """The change is in place, but the disk has not confirmed it."""

    code = "not-confirmed"


class MissingExtraError(ApiKeyError):
    """An optional part of apikey is not installed."""

    code = "extra-missing"

    def __init__(self, extra: str) -> None:
        super().__init__(
            f"The extra '{extra}' of apikey is not installed.",
            hint=f"Install it with: {shell_command(*_installer(), *_installed(extra))}",
        )


def _installer() -> list[str]:
    """Return the command that installs where this program runs: pipx, uv or pip."""
    from importlib.util import find_spec

    parts = sys.prefix.replace("\\", "/").split("/")
    if "pipx" in parts:
        return ["pipx", "install", "--force"]
    if parts[-3:-1] == ["uv", "tools"]:
        return ["uv", "tool", "install", "--force"]
    if find_spec("pip") is None:
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _installed(extra: str) -> list[str]:
    """Return what to install: the package with its extra, or the clone that this is part of."""
    import os

    project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.isfile(os.path.join(project, "pyproject.toml")):
        return ["-e", f"{project}[{extra}]"]
    return [f"metricshub-apikey[{extra}]"]


class ServeError(ApiKeyError):
    """The gateway cannot listen where it should."""

    code = "serve-failed"
