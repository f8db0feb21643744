"""What the options common to all commands ask for, and what is made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cached_property

from .errors import InvalidArgumentError, PasswordError
from .expiry import to_local
from .interrupts import Interrupts
from .keystore import LOCK_TIMEOUT, Keystore, ignore_note
from .output import Form, Output
from .passwords import read_passwords
from .paths import Location, find_keystore
from .registry import ApiKeyRegistry, utc_now

LAUNCHER_VARIABLE = "APIKEY_LAUNCHER"
PASSWORD_FILE_VARIABLE = "METRICSHUB_KEYSTORE_PASSWORD_FILE"  # noqa: S105 - the name of a variable

COLORS = {"always": True, "never": False, "auto": None}


class Session:
    """One run of the command; the attributes without a default hold the common options."""

    def __init__(self) -> None:
        """Start with no option given."""
        self.interrupts = Interrupts()
        self.keystore: str | None = None
        self.password_file: str | None = None
        self.lock_timeout: float | None = None
        self.color: str = "auto"
        self.output: str = "text"
        self.quiet: bool = False

    @cached_property
    def out(self) -> Output:
        """Where everything is printed."""
        no_color = self.color == "auto" and bool(os.environ.get("NO_COLOR"))
        color = False if no_color else COLORS[self.color]
        if self.quiet and self.output == "json":
            raise InvalidArgumentError("--quiet and --output json exclude each other.")
        return Output(Form.QUIET if self.quiet else Form(self.output), color=color)

    @cached_property
    def location(self) -> Location:
        """Which keystore to use."""
        launcher = os.environ.get(LAUNCHER_VARIABLE) or sys.argv[0]
        return find_keystore(self.keystore, environ=os.environ, launcher=launcher)

    @cached_property
    def registry(self) -> ApiKeyRegistry:
        """The API keys in that keystore."""
        return self._open(note=self.out.note, warn=self.out.warn)

    def quiet_registry(self) -> ApiKeyRegistry:
        """
        Return the same for a shell that completes a word: nothing is printed or waited for.

        Raises:
            PasswordError: The password is not in a regular file.
        """
        if self._password_file is not None and not os.path.isfile(self._password_file):
            raise PasswordError("The password is not in a regular file.")
        return self._open(note=ignore_note, warn=ignore_note)

    def _open(self, *, note: Callable[[str], None], warn: Callable[[str], None]) -> ApiKeyRegistry:
        keystore = Keystore(
            self.location.path,
            read_passwords(self._password_file, warn),
            lock_timeout=LOCK_TIMEOUT if self.lock_timeout is None else self.lock_timeout,
            notify=note,
            before_commit=self.interrupts.hold,
        )
        return ApiKeyRegistry(keystore)

    @property
    def _password_file(self) -> str | None:
        if self.password_file is not None:
            return self.password_file
        return os.environ.get(PASSWORD_FILE_VARIABLE) or None

    @property
    def now(self) -> datetime:
        """The local time, as a server on this machine sees it."""
        return to_local(utc_now())
