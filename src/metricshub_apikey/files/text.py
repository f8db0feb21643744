r"""
Text in a file that a user wrote, in the encoding that its editor chose.

    >>> decode("\ufeffkeys: []".encode("utf-16-le"), "keys.yaml", ApiKeyError)
    'keys: []'
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

from metricshub_apikey.errors import ApiKeyError

MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
    (codecs.BOM_UTF8, "UTF-8"),
)
"""UTF-32 comes first: its little-endian mark begins with that of UTF-16."""


def decode(data: bytes, name: str, error: Callable[[str], ApiKeyError]) -> str:
    """
    Return the text in *data*: UTF-8, or what its byte-order mark says.

    Args:
        data: The whole file; PowerShell, for one, writes UTF-16 with a mark.
        name: The file, for the error.
        error: Makes the error from its sentence.

    Raises:
        ApiKeyError: As *error* made it; the sentence names the line.
    """
    mark, encoding = next((one for one in MARKS if data.startswith(one[0])), (b"", "UTF-8"))
    body = data[len(mark) :]
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as fault:
        line = body[: fault.start].decode(encoding, "ignore").count("\n") + 1
        raise error(f"{name}, line {line}: this is not {encoding[:6].rstrip('-')}.") from None
