"""
Where a key is found: its alias as one segment of a path.

An alias may hold a slash or be `..`, which clients and proxies rewrite, so `~` and the base64url of
the alias (RFC 4648, section 5, without padding) names the same key.

    >>> segment("ci"), alias_in("~Y2k"), alias_in("a%2Fb")
    ('~Y2k', 'ci', 'a/b')
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

MARK = "~"


def segment(alias: str) -> str:
    """Return the segment that names *alias* and that no client or proxy rewrites."""
    raw = base64.urlsafe_b64encode(alias.encode(errors="surrogatepass"))
    return MARK + raw.decode().rstrip("=")


def alias_in(written: str) -> str | None:
    """
    Return the alias that a segment names; None where it names none.

    Args:
        written: One segment of the path, as it was sent: split before it is decoded.
    """
    try:
        if written.startswith(MARK):
            return _decoded(written[1:]) or None
        if re.search("%(?![0-9A-Fa-f]{2})", written):
            return None
        return unquote_to_bytes(written).decode() or None
    except (ValueError, binascii.Error):
        return None


def _decoded(text: str) -> str:
    """Return what base64url holds, where it is written in the one canonical way."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    alias = raw.decode(errors="surrogatepass")
    if segment(alias) != MARK + text:
        raise ValueError(text)
    return alias
