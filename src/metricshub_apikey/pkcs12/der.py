"""
A strict reader and writer for DER (X.690), as far as PKCS#12 needs it.

The rules of the reader:

- known tags, definite and minimal lengths, every length inside the bytes around it;
- no recursion: the caller asks for one element after another, so nesting costs nothing;
- no sorting: Java writes the attribute SET in an order that a strict `SET OF` decoder refuses.

The elements are spans (start, end) of one `bytes` object; nothing is copied until it is needed.

    >>> data = sequence(integer(3), octets(b"salt"))
    >>> start, end = enter(data, 0, len(data), SEQUENCE)
    >>> read_integer(data, *enter(data, start, end, INTEGER))
    3
"""

from __future__ import annotations

from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    UnsupportedFormatError,
)

INTEGER = 0x02
OCTETS = 0x04
NULL = b"\x05\x00"
OID = 0x06
UTF8_STRING = 0x0C
BMP_STRING = 0x1E
SEQUENCE = 0x30
SET = 0x31
CONTEXT_0 = 0xA0  # [0] EXPLICIT, constructed
CONTEXT_0_OCTETS = 0x80  # [0] IMPLICIT OCTET STRING, primitive

MAX_INTEGER_BYTES = 8


def enter(data: bytes, start: int, end: int, tag: int) -> tuple[int, int]:
    """
    Read the tag and the length of the element at *start*.

    Args:
        data: The bytes that hold the element.
        start: Offset of its tag.
        end: Offset after the last byte it may use.
        tag: What its tag must be.

    Returns:
        The offsets of the content's first byte, and of the byte after its last.

    Raises:
        DamagedBytesError: No strict DER element with this tag fits between *start* and *end*.
        UnsupportedFormatError: The length is indefinite (BER).
    """
    content = start + 2
    if content > end or data[start] != tag:
        raise malformed(start)
    size = data[start + 1]
    if size > 0x7F:
        content += size & 0x7F
        if size == 0x80:
            raise UnsupportedFormatError("is BER-encoded (indefinite length); only DER is read")
        if size > 0x88 or content > end:
            raise malformed(start)
        size = int.from_bytes(data[start + 2 : content], "big")
        if size < 0x80 or data[start + 2] == 0:
            raise malformed(start)
    stop = content + size
    if stop > end:
        raise malformed(start)
    return content, stop


def enter_last(data: bytes, start: int, end: int, tag: int) -> tuple[int, int]:
    """Like `enter`, for an element that must be followed by nothing."""
    content, stop = enter(data, start, end, tag)
    if stop != end:
        raise malformed(stop)
    return content, stop


def split(data: bytes, start: int, end: int, tag: int, *, most: int, what: str) -> list[bytes]:
    """
    Return the elements, all of which must have *tag*, that fill *start* to *end*.

    Raises:
        DamagedBytesError: Something else is there.
        FormatLimitError: There are more than *most*; *what* they are is for the message.
    """
    elements: list[bytes] = []
    while start < end:
        _, stop = enter(data, start, end, tag)
        if len(elements) == most:
            raise FormatLimitError(f"holds more {what} than the limit of {most:,}")
        elements.append(data[start:stop])
        start = stop
    return elements


def read_integer(data: bytes, start: int, end: int) -> int:
    """
    Return the INTEGER whose content is *start* to *end*.

    Raises:
        DamagedBytesError: The content is empty, or longer than its value needs.
        FormatLimitError: It has more than 8 bytes; no count or version is that large.
    """
    if end - start > MAX_INTEGER_BYTES:
        raise FormatLimitError(f"holds a number over the limit of {MAX_INTEGER_BYTES} bytes")
    content = data[start:end]
    if not content or (len(content) > 1 and content[0] in (0, 0xFF) and _same_sign(content)):
        raise malformed(start)
    return int.from_bytes(content, "big", signed=True)


def _same_sign(content: bytes) -> bool:
    return (content[0] ^ content[1]) & 0x80 == 0


def malformed(offset: int) -> DamagedBytesError:
    """Return the error for bytes that are no strict DER, *offset* into the part being read."""
    return DamagedBytesError(hint=f"It is not strict DER at byte {offset} of the part being read.")


def element(tag: int, *contents: bytes) -> bytes:
    """Return one element with the concatenated *contents*."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE of encoded elements."""
    return element(SEQUENCE, *contents)


def octets(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return element(OCTETS, content)


def integer(value: int) -> bytes:
    """Return an INTEGER, signed, in as few bytes as it needs."""
    magnitude = value if value >= 0 else ~value
    return element(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form (X.690 section 8.19)."""
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        content.extend(reversed(groups))
    return element(OID, bytes(content))
