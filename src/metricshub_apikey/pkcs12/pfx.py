"""The outermost layer of the file, PFX (RFC 7292, section 4): what is sealed, and the seal."""

from __future__ import annotations

from metricshub_apikey.pkcs12.problems import (
    DamagedBytesError,
    FormatLimitError,
    NotPkcs12Error,
    TruncatedBytesError,
    UnsupportedFormatError,
)

from . import der
from .contents import DATA

SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
VERSION = 3
VERSION_DER = der.integer(VERSION)


def open_pfx(data: bytes) -> tuple[bytes, int, int]:
    """
    Return the authenticated safe's bytes, where the MacData begins, and where the PFX ends.

    Raises:
        NotPkcs12Error: The bytes are something else.
        TruncatedBytesError: They end too early.
        DamagedBytesError: They are no strict DER further inside.
        UnsupportedFormatError: BER, another version, public-key integrity.
    """
    start, end = _enter_pfx(data)
    try:
        body, at = der.enter(data, start, end, der.INTEGER)
        version = der.read_integer(data, body, at)
        content, stop = der.enter(data, at, end, der.SEQUENCE)
        _, inner = der.enter(data, content, stop, der.OID)
    except (DamagedBytesError, FormatLimitError):
        raise NotPkcs12Error from None
    if data.startswith(SIGNED_DATA, content):
        raise UnsupportedFormatError("is sealed with a public key; only passwords are supported")
    if not data.startswith(DATA, content):
        raise NotPkcs12Error
    if version != VERSION:
        raise UnsupportedFormatError(
            f"is a PKCS#12 file of version {version}; only version 3 is read"
        )
    body, inner = der.enter_last(data, inner, stop, der.CONTEXT_0)
    body, inner = der.enter_last(data, body, inner, der.OCTETS)
    return data[body:inner], stop, end


def _enter_pfx(data: bytes) -> tuple[int, int]:
    """Enter the outermost SEQUENCE; tell a file cut short from one that never was a keystore."""
    if not data:
        raise TruncatedBytesError(hint="The file is empty.")
    try:
        return der.enter(data, 0, len(data), der.SEQUENCE)
    except DamagedBytesError:
        header = 2 + (data[1] & 0x7F if len(data) > 1 and data[1] > 0x7F else 0)
        version = data[header : header + len(VERSION_DER)]
        if data[0] == der.SEQUENCE and VERSION_DER.startswith(version):
            raise TruncatedBytesError(hint="The file ends too early.") from None
        raise NotPkcs12Error from None


def encode_pfx(safe: bytes, seal: bytes) -> bytes:
    """Return the file around the authenticated safe *safe* and its MacData *seal*."""
    content = der.sequence(DATA, der.element(der.CONTEXT_0, der.octets(safe)))
    return der.sequence(VERSION_DER, content, seal)
