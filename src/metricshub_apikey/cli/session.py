"""What the options common to all commands ask for, and what is made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Sequence
from functools import cached_property
from io import BytesIO
from itertools import takewhile
from typing import TYPE_CHECKING, BinaryIO

from metricshub_apikey.activity.caller import caller
from metricshub_apikey.activity.journal import Journal
from metricshub_apikey.errors import (
    ActivityError,
    InvalidArgumentError,
    MissingExtraError,
    NoKeystoreError,
    NotAgreedError,
    NotConfirmedError,
    PasswordError,
    PolicyError,
    own_command,
)
from metricshub_apikey.keys.alias import meant
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.keystore.keystore import LOCK_TIMEOUT, Keystore, ignore_note
from metricshub_apikey.keystore.location import (
    ENVIRONMENT_VARIABLE,
    Location,
    exists,
    find_keystore,
)
from metricshub_apikey.keystore.passwords import STANDARD_INPUT, line_text, read_passwords
from metricshub_apikey.keystore.server_zone import ServerZone, server_zone
from metricshub_apikey.policy.rules import Policy
from metricshub_apikey.registry.api_keys import ApiKeys, utc_now

from .interrupts import Interrupts
from .output import Form, Output

if TYPE_CHECKING:
    from metricshub_apikey.activity.database import ActivityLog, Event
    from metricshub_apikey.gateway.redis.record import RedisRecord
    from metricshub_apikey.pkcs12.kdf import Passwords
    from metricshub_apikey.policy.state import Address

LAUNCHER_VARIABLE = "APIKEY_LAUNCHER"
PASSWORD_FILE_VARIABLE = "METRICSHUB_KEYSTORE_PASSWORD_FILE"  # noqa: S105 - the name of a variable

SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sudo looks for commands, as Debian and Red Hat set it up."""

MAX_SECRET = 16_384

COLORS = {"always": True, "never": False, "auto": None}


class Session:
    """One run of the command; the attributes without a default hold the common options."""

    def __init__(self) -> None:
        """Start with no option given."""
        self.interrupts = Interrupts()
        self.keystore: str | None = None
        self.password_file: str | None = None
        self.policy_file: str | None = None
        self.state_url: str | None = None
        self.timezone: str | None = None
        self.lock_timeout: float | None = None
        self.color: str = "auto"
        self.output: str = "text"
        self.quiet: bool = False
        self.trouble = 1
        self._events: list[Event] = []
        self._unconfirmed: list[NotConfirmedError] = []

    def program(self, *, elsewhere: bool) -> list[str]:
        """Return this program's words as it was started, for hints; see `errors.use_program`."""
        from metricshub_apikey.policy.location import ENVIRONMENT_VARIABLE as POLICY_VARIABLE

        words = _as_started(elsewhere=elsewhere)
        for option, value, variable in (
            ("--keystore", self.keystore, ENVIRONMENT_VARIABLE),
            ("--password-file", self.password_file, PASSWORD_FILE_VARIABLE),
            ("--policy", self.policy_file, POLICY_VARIABLE),
        ):
            if not elsewhere:
                words += [option, value] if value else []
            elif not value and os.environ.get(variable):
                words += [option, os.environ[variable]]  # sudo passes no variables on
        arguments = sys.argv[1:] if elsewhere else []
        # The URL of a server may hold a password.
        return words + ([] if any("://" in word for word in arguments) else arguments)

    @cached_property
    def out(self) -> Output:
        """Where everything is printed."""
        no_color = self.color == "auto" and bool(os.environ.get("NO_COLOR"))
        color = False if no_color else COLORS[self.color]
        return Output(Form.QUIET if self.quiet else Form(self.output), color=color)

    @cached_property
    def location(self) -> Location:
        """Which keystore to use."""
        return find_keystore(self.keystore, environ=os.environ, launcher=_launcher())

    def require_keystore(self) -> None:
        """Check that the keystore is there, or may be; raises NoKeystoreError."""
        if exists(self.location.path) is False:
            raise NoKeystoreError(
                f"There is no keystore at {self.location.path}.",
                hint=f"See which keystore is used, and why: {own_command('path')}",
            )

    @cached_property
    def keys(self) -> ApiKeys:
        """The API keys in that keystore."""
        return ApiKeys(
            self.keystore_file,
            clock=lambda: self.now.instant,
            zone=self.zone,
            journal=self.journal,
            notify=self.out.note,
        )

    @cached_property
    def journal(self) -> Journal:
        """Who does what, kept until the result is handed out; see `record_events`."""
        return Journal(lambda: caller(os.environ), self._events.extend, self.history)

    @cached_property
    def policy(self) -> Policy:
        """The rules in force."""
        from metricshub_apikey.policy.location import in_force

        return in_force(self.policy_file, self.location.path, os.environ)

    def policy_or_error(self) -> Policy | PolicyError:
        """Return the rules in force, or why they cannot be read."""
        try:
            return self.policy
        except PolicyError as error:
            return error

    @property
    def policy_path(self) -> str:
        """Where a new policy file belongs."""
        from metricshub_apikey.policy.location import named_policy, path_beside

        named = named_policy(self.policy_file, os.environ)
        return path_beside(self.location.path) if named is None else named

    @cached_property
    def activity(self) -> ActivityLog:
        """Who did what, and when keys were used."""
        from metricshub_apikey.activity.database import ActivityLog, path_beside

        return ActivityLog(path_beside(self.location.path))

    @property
    def state(self) -> Address | None:
        """Which server the gateways share; a policy that cannot be read names none."""
        from metricshub_apikey.policy.state import find_state

        policy = self.policy_or_error()
        named = None if isinstance(policy, PolicyError) else policy.state
        return find_state(self.state_url, named, os.environ)

    @cached_property
    def usage(self) -> Usage:
        """When keys were last used; a warning where that cannot be read."""
        try:
            record = self._record()
            return Usage(record.last_uses(), record.recording_since())
        except (ActivityError, MissingExtraError) as error:
            self.out.warn(f"{error.message} When keys were last used is unknown.")
            return Usage()

    def _record(self) -> ActivityLog | RedisRecord:
        """Return where gateways write down uses."""
        state = self.state
        if state is None:
            return self.activity
        from metricshub_apikey.gateway.redis.record import RedisRecord

        return RedisRecord(state)

    def check_confirmed(self) -> None:
        """
        Raise what the disk said of a change; call it when its result, perhaps a key, is handed out.

        Raises:
            NotConfirmedError: The change is in place, but not confirmed.
        """
        for error in self._unconfirmed:
            raise error

    def record_events(self) -> None:
        """Write down what was done; call it when its result, perhaps a key, is handed out."""
        events = self._events[:]
        self._events.clear()
        try:
            if events:
                self.activity.record(events)
        except ActivityError as error:
            self.out.warn_late(f"This is done, but not in the log: {error.message}")

    def quiet_keys(self) -> ApiKeys:
        """
        Return the same for a shell that completes a word: nothing is printed or waited for.

        Raises:
            PasswordError: The password is not in a regular file.
        """
        if self._password_file is not None and not os.path.isfile(self._password_file):
            raise PasswordError("The password is not in a regular file.")
        keystore = Keystore(self.location.path, read_passwords(self._password_file, ignore_note))
        return ApiKeys(keystore)

    @cached_property
    def passwords(self) -> Passwords:
        """Of the keystore; read once, for they may come from a pipe."""
        return read_passwords(self._password_file, self.out.warn)

    @cached_property
    def keystore_file(self) -> Keystore:
        """That keystore, to read and to update."""
        return Keystore(
            self.location.path,
            self.passwords,
            lock_timeout=LOCK_TIMEOUT if self.lock_timeout is None else self.lock_timeout,
            notify=self.out.note,
            before_commit=self.interrupts.hold,
            unconfirmed=self._unconfirmed.append,
        )

    def require_unlike(self, aliases: Container[str]) -> None:
        """
        Check that no option on the command line is the alias of a key as well.

        Java can make keys with such names, and `list -q | xargs apikey revoke` passes them on.

        Raises:
            InvalidArgumentError: What is meant cannot be told.
        """
        for word in takewhile(lambda word: word != "--", sys.argv[1:]):
            if word.startswith("-") and meant(word, aliases) is not None:
                raise InvalidArgumentError(
                    f"'{word}' is an option, and a key has this alias, too.",
                    hint=f"To revoke that key: {own_command('revoke', word)}",
                )

    def require_terminal(self) -> None:
        """Check that there is a terminal to ask on; raises InvalidArgumentError."""
        if not self.out.can_ask():
            raise InvalidArgumentError("Without a terminal to ask on, this needs --yes.")

    def agree(self, question: str) -> None:
        """Go on only if the user says yes to *question*; raises NotAgreedError."""
        if not self.out.ask(question):
            raise NotAgreedError("Nothing was changed.")

    def history(self, fingerprint: str) -> Sequence[Event]:
        """Return what was done to a key; nothing, and a warning, where that cannot be read."""
        try:
            return self.activity.history(fingerprint)
        except ActivityError as error:
            self.out.warn(error.message)
            return ()

    def read_secret(self, name: str) -> str:
        """
        Return the first line of standard input; on a terminal ask for it, and do not show it.

        Raises:
            InvalidArgumentError: The password comes from there, or it is no text.
        """
        if self._password_file == STANDARD_INPUT:
            raise InvalidArgumentError("The password and the key cannot both be standard input.")
        if sys.stdin is None:
            return ""
        if sys.stdin.isatty():
            return _typed(name)
        line = sys.stdin.buffer.readline(MAX_SECRET)
        try:
            return line_text(line)
        except PasswordError:
            return line.decode("utf-8", "replace").rstrip("\r\n")

    def open_stdin(self, *named: str) -> BinaryIO:
        """
        Return standard input, for a command whose files are *named*; it may be among them as `-`.

        Raises:
            InvalidArgumentError: It is, but it is closed, or the password comes from there.
        """
        if STANDARD_INPUT in named and self._password_file == STANDARD_INPUT:
            raise InvalidArgumentError("The password and a file cannot both be standard input.")
        if STANDARD_INPUT in named and sys.stdin is None:
            raise InvalidArgumentError("There is no standard input to read.")
        return BytesIO() if sys.stdin is None else sys.stdin.buffer

    @property
    def _password_file(self) -> str | None:
        if self.password_file is not None:
            return self.password_file
        return os.environ.get(PASSWORD_FILE_VARIABLE) or None

    @cached_property
    def now(self) -> Moment:
        """The moment at which the command runs, on the server's clock."""
        return Moment(utc_now(), self.zone)

    @cached_property
    def zone(self) -> ServerZone:
        """The server's time zone, found out when an expiry needs it; a note where it is odd."""
        return server_zone(
            self.location.path,
            option=self.timezone,
            policy=self._policy_zone,
            environ=os.environ,
            notify=lambda note: self.out.note(note.message),
        )

    def _policy_zone(self) -> str | None:
        policy = self.policy_or_error()
        return None if isinstance(policy, PolicyError) else policy.timezone


def _launcher() -> str:
    return os.environ.get(LAUNCHER_VARIABLE) or sys.argv[0]


def _as_started(*, elsewhere: bool) -> list[str]:
    """Return the words that start this program: its name where a shell finds it by that."""
    launcher = _launcher()
    name = os.path.basename(launcher)
    if name == "__main__.py":
        return [sys.executable, "-m", "metricshub_apikey"]
    if not os.path.dirname(launcher):
        return ["apikey"]
    from shutil import which

    found = which(name, path=SUDO_PATH if elsewhere else None)
    here = os.path.abspath(launcher)
    return [name if found is not None and os.path.abspath(found) == here else here]


def _typed(name: str) -> str:
    """Return what the user types unseen at the terminal; nothing, if the user ends the input."""
    from getpass import getpass

    try:
        return getpass(f"{name}: ")
    except EOFError:
        return ""
