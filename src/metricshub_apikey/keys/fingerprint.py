"""What a key is known by in records, which never hold the key."""

from __future__ import annotations

import hashlib


def fingerprint(key: str) -> str:
    """Return what a key is known by here: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
