"""Handing out a new key, in a file of its own or on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from metricshub_apikey.errors import NotDeliveredError, OutputError
from metricshub_apikey.files.new_file import NewFile
from metricshub_apikey.files.signals import postponed
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.document import key_document
from metricshub_apikey.keys.expiry import Moment
from metricshub_apikey.keys.selection import Usage

from .key_text import expiry_phrase
from .options import exclude
from .output import Form, green
from .result import Document, Result
from .session import Session

STORE_IT = "Please store this key securely, as it will not be shown again."


@contextlib.contextmanager
def reserve(path: str | None) -> Iterator[NewFile | None]:
    """
    Make the file at *path* for a key that is about to be created; no file where it is None.

    If the block raises, the file goes away again, unless it is kept.

    Raises:
        OutputError: The file exists, or cannot be made.
    """
    if path is None:
        yield None
        return
    file = None
    try:
        with postponed():
            file = NewFile(path)
        yield file
    except BaseException:
        if file is not None:
            file.discard()
        raise
    finally:
        if file is not None:
            file.close()


@contextlib.contextmanager
def promise(alias: str) -> Iterator[None]:
    """
    Turn whatever keeps the new key *alias* from its user into one clear error.

    Args:
        alias: As the user typed it.

    Raises:
        NotDeliveredError: The key was not delivered; it must be taken back.
    """
    try:
        yield
    except (OSError, OutputError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotDeliveredError(
            f"The new API key of '{alias}' was not delivered: {reason}",
            hint="No key is left behind. Run the command again when that is mended.",
        ) from error


class NewKey(Result):
    """
    A new key for its user: in a file of its own, or on standard output.

    Attributes:
        verb: What was done with the key.
    """

    verb = "created"

    def __init__(
        self, key: ApiKey, *, alias: str, file: str | None, keystore: str, now: Moment
    ) -> None:
        """
        Take what is shown.

        Args:
            key: It is in the keystore.
            alias: As the user typed it.
            file: The file that the key goes to; None to show it here.
            keystore: The path of the keystore.
            now: The current moment, on the server's clock.
        """
        self.key = key
        self.alias = alias
        self.file = file
        self.keystore = keystore
        self.now = now
        self.secret = key.secret
        self.output: str | None = None

    def fields(self) -> Document:
        """Return the fields of the JSON document that tell of the key."""
        told = key_document(self.key, now=self.now, usage=Usage())
        shown = None if self.place else self.secret.reveal()
        return {**told, "key": shown, "file": self.file, "delivery_output": self.output}

    @property
    def place(self) -> str | None:
        """Where the key went, in a few words; None where it is shown."""
        if self.file:
            return f"written to {escape(self.file)}"
        return None if self.output is None else "delivered"

    def consequences(self) -> list[str]:
        """Return notes that are true once the key is in force."""
        return []

    def quiet(self) -> list[str]:
        """Return the key alone."""
        return [] if self.place else [self.secret.reveal()]

    def lines(self) -> list[str]:
        """Return the sentence that scripts cut up, and a request where the key is in it."""
        shown = self.place or green(self.secret.reveal())
        phrase = expiry_phrase(self.key.expires_on, self.now)
        alias = green(escape(self.alias))
        sentence = f"API key {self.verb} for alias '{alias}': {shown} ({phrase})"
        return [sentence] if self.place else [sentence, STORE_IT]


class Handover:
    """How a new key gets to its user: on standard output, in a file, or through a command."""

    def __init__(self, session: Session, file: NewFile | None, options: Receivers) -> None:
        """Take where the key goes; *file* is there already, and empty."""
        self._session = session
        self._file = file
        self._options = options
        self._told: dict[str, str] = {}

    def give(self, new: NewKey) -> None:
        """
        Hand *new* out, before it is in force.

        Raises:
            NotDeliveredError: Its user did not get it.
        """
        session, options = self._session, self._options
        if options.deliver or options.then:
            from metricshub_apikey.registry.delivery import variables

            self._told = variables(new.key, now=session.now, keystore=session.location.path)
        if options.deliver:
            from metricshub_apikey.registry.delivery import deliver

            session.interrupts.release()  # a command may take long
            new.output = deliver(
                options.deliver, new.key, self._told, timeout=options.seconds, echo=self._echo
            )
            session.interrupts.hold()
        elif self._file is None:
            session.out.warn_if_readable()
            if session.out.form is Form.JSON:
                self._note(new)
            with promise(new.alias):
                session.out.show(new)
        else:
            with promise(new.alias):
                self._file.write(new.secret.reveal())

    def give_up(self) -> None:
        """Remove the file that was made for a key that is not needed."""
        if self._file is not None:
            self._file.discard()

    def finish(self, new: NewKey) -> None:
        """
        Say what was done with a key that is in force now, and run what is to follow.

        Raises:
            OutputError: Its user has the key, but that could not be shown.
            FollowUpError: The command that was to follow has failed.
        """
        options = self._options
        if self._file is not None:
            self._file.keep()
        if self._file is not None or options.deliver or self._session.out.form is not Form.JSON:
            self._note(new)
        if self._file is not None:
            self._session.out.show(new, done=f"The key is in {self._file.path}")
        elif options.deliver:
            self._session.out.show(new, done="The key is active and delivered")
        if options.then:
            from metricshub_apikey.registry.delivery import follow_up

            follow_up(options.then, self._told, timeout=options.seconds, echo=self._echo)

    def _note(self, new: NewKey) -> None:
        for sentence in new.consequences():
            self._session.out.note(sentence)

    def _echo(self, piece: str) -> None:
        """Show what a command prints, on standard error; a JSON document has a field for it."""
        self._session.out.tell(piece, end="")


class Receivers(NamedTuple):
    """
    What the user says of where a new key goes.

    Attributes:
        out: A new file.
        deliver: A command that takes it on its standard input.
        then: A command that follows.
        seconds: How long either may take.
    """

    out: str | None
    deliver: str | None
    then: str | None
    seconds: float

    def check(self) -> None:
        """Raise InvalidArgumentError where they do not go together."""
        exclude([("--out", self.out), ("--deliver", self.deliver)])


@contextlib.contextmanager
def handover(session: Session, options: Receivers) -> Iterator[Handover]:
    """Prepare the handing out of a new key; see `Handover` and `reserve`."""
    options.check()
    with reserve(options.out) as file:
        yield Handover(session, file, options)
