"""
The attributes of a SafeBag (RFC 7292, section 4.2): its name, its creation time, and texts.

Nothing here sorts, or wants an order: Java writes the SET in one that DER forbids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    UnsupportedFormatError,
)

from . import der

FRIENDLY_NAME = der.oid("1.2.840.113549.1.9.20")
LOCAL_KEY_ID = der.oid("1.2.840.113549.1.9.21")

CREATION_TIME = b"Time "
MAX_NAME = 4_096
MAX_ATTRIBUTES = 1_000

Texts = Mapping[int, tuple[str, ...]]
"""The UTF8String values of the attributes directly below one arc, by their last number."""


def read_names(raw: bytes, at: int) -> tuple[bytes | None, bytes | None]:
    """
    Return what friendlyName (UTF-16BE) and localKeyID hold; of several, Java takes the last.

    Args:
        raw: A whole SafeBag.
        at: Where its attributes begin; there may be none.

    Raises:
        DamagedBytesError: They are no SET of attributes.
        FormatLimitError: There are too many, or the name is too long.
    """
    name = local_key_id = None
    for _, body, stop in _walk(raw, at):
        if raw.startswith(FRIENDLY_NAME, body):
            name = _first_value(raw, body + len(FRIENDLY_NAME), stop, der.BMP_STRING)
        elif raw.startswith(LOCAL_KEY_ID, body):
            local_key_id = _first_value(raw, body + len(LOCAL_KEY_ID), stop, der.OCTETS)
        elif body == stop or raw[body] != der.OID:
            raise der.malformed(body)
    if name is not None and len(name) > 2 * MAX_NAME:
        raise FormatLimitError(
            f"has an entry with a name over the limit of {MAX_NAME:,} characters"
        )
    return name, local_key_id


def _walk(raw: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield of each attribute where it, and where its content, starts, and where it ends."""
    if at == len(raw):
        return
    at, end = der.enter_last(raw, at, len(raw), der.SET)
    count = 0
    while at < end:
        count += 1
        if count > MAX_ATTRIBUTES:
            raise FormatLimitError(
                f"has an entry with more attributes than the limit of {MAX_ATTRIBUTES:,}"
            )
        start = at
        body, at = der.enter(raw, start, end, der.SEQUENCE)
        yield start, body, at


def _first_value(raw: bytes, start: int, end: int, tag: int) -> bytes | None:
    body, stop = der.enter(raw, start, end, der.SET)
    if body == stop or raw[body] != tag:
        return None
    value, stop = der.enter(raw, body, stop, tag)
    return None if tag == der.BMP_STRING and (stop - value) % 2 else raw[value:stop]


def encode_names(alias: str, created_ms: int) -> bytes:
    """
    Return the two attributes that Java gives an entry, in Java's order.

    The localKeyID is never left out: JDK 8u252 crashes without one, and 11.0.5 to 11.0.10 drop
    the entry silently.
    """
    created = der.octets(CREATION_TIME + str(created_ms).encode())
    return _encode_name(alias) + der.sequence(LOCAL_KEY_ID, der.element(der.SET, created))


def _encode_name(alias: str) -> bytes:
    name = der.element(der.BMP_STRING, alias.encode("utf-16-be"))
    return der.sequence(FRIENDLY_NAME, der.element(der.SET, name))


def _below(arc: str) -> bytes:
    """Return how the OIDs begin that have one more number, less than 128, than *arc*."""
    tag, size, *content = der.oid(arc)
    return bytes((tag, size + 1, *content))


class TextAttributes:
    """Attributes with UTF8String values below one arc of object identifiers."""

    def __init__(self, arc: str) -> None:
        """Take the *arc*, in dotted form; the numbers below it are 1 to 127."""
        self._below = _below(arc)

    def read(self, raw: bytes, at: int) -> Texts:
        """
        Return the texts of a SafeBag; values of other types are left out.

        Args:
            raw: The SafeBag.
            at: Where its attributes begin; there may be none.
        """
        found = {}
        for _, body, stop in _walk(raw, at):
            number = self._number(raw, body, stop)
            if number is not None:
                found[number] = tuple(_texts(raw, body + len(self._below) + 1, stop))
        return found

    def encode(self, texts: Texts) -> bytes:
        """Return the attributes for *texts*, those without a value left out."""
        encoded = b""
        for number, values in texts.items():
            if values:
                members = [der.element(der.UTF8_STRING, value.encode()) for value in values]
                kind = self._below + bytes((number,))
                encoded += der.sequence(kind, der.element(der.SET, *members))
        return encoded

    def replace(self, raw: bytes, at: int, texts: Texts, *, alias: str | None = None) -> bytes:
        """
        Return the attributes of a SafeBag with other *texts*, and perhaps another name.

        All others, of this arc too, stay as they are.
        """
        kept = b""
        for start, body, stop in _walk(raw, at):
            if alias is not None and raw.startswith(FRIENDLY_NAME, body):
                kept += _encode_name(alias)
            elif self._number(raw, body, stop) not in texts:
                kept += raw[start:stop]
        return kept + self.encode(texts)

    def _number(self, raw: bytes, body: int, stop: int) -> int | None:
        found = raw.startswith(self._below, body, stop - 1)
        return raw[body + len(self._below)] if found else None


def _texts(raw: bytes, at: int, end: int) -> Iterator[str]:
    try:
        at, end = der.enter_last(raw, at, end, der.SET)
        for _ in range(MAX_ATTRIBUTES):
            if at == end:
                return
            body, at = der.enter(raw, at, end, der.UTF8_STRING)
            yield raw[body:at].decode()
    except (DamagedBytesError, UnsupportedFormatError, UnicodeDecodeError):
        return  # Another program wrote it in another form.
