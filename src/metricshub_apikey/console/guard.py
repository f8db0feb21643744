"""
What a request must be before anything is done about it, whatever its sender.

A browser sends requests for any page that its user has open, so the console looks at where a
request comes from (Host, Origin, Sec-Fetch-Site) before it looks at its token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .problems import Problem

API = b"/v1"
LARGEST_BODY = 65_536
LOOPBACK_HOST = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
SINGLE = (b"host", b"origin", b"authorization", b"content-type", b"content-length")
SAME_SITE = (b"same-origin", b"none")
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

Headers = Sequence[tuple[bytes, bytes]]

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            b"require-trusted-types-for 'script'; trusted-types 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Sent with every answer."""


class Place(NamedTuple):
    """
    Where browsers find the console.

    Attributes:
        public: The origin given by --public-url, such as `https://keys.example`; None for a
            console on loopback, which `ssh -L` may show under any port.
        scheme: What this process speaks: `http` or `https`.
    """

    public: str | None = None
    scheme: str = "http"

    def knows(self, host: bytes) -> bool:
        """Return whether *host* is a name of the console; others are DNS rebinding."""
        if self.public is None:
            return LOOPBACK_HOST.fullmatch(host) is not None
        return _without_default_port(host, self.public) == self.public.partition("://")[2].encode()

    def origin(self, host: bytes) -> bytes:
        """Return the one origin whose scripts may call the API."""
        if self.public is not None:
            return self.public.encode()
        return f"{self.scheme}://".encode() + host.lower()


def _without_default_port(host: bytes, public: str) -> bytes:
    default = b":443" if public.startswith("https:") else b":80"
    return host.lower().removesuffix(default)


def single(headers: Headers) -> Mapping[bytes, bytes]:
    """
    Return the headers by name.

    Raises:
        Problem: One that must be single is there twice: two programs would read it differently.
    """
    said = dict(headers)
    if len(said) < len(headers):
        for name in SINGLE:
            if sum(name == one for one, _ in headers) > 1:
                shown = name.decode().title()
                raise Problem(400, "duplicated-header", f"The header {shown} is there twice.")
    return said


def check_origin(place: Place, path: bytes, said: Mapping[bytes, bytes]) -> None:
    """
    Refuse a request that is meant for another host, or that another site's page sends.

    A navigation to the page itself may come from anywhere: a link in a wiki is cross-site.

    Raises:
        Problem: 400, 421 or 403.
    """
    host = said.get(b"host")
    if host is None:
        raise Problem(400, "host-missing", "The request has no Host.")
    if not place.knows(host):
        raise Problem(
            421,
            "host-unknown",
            "This is not the console's host name.",
            hint="Behind a proxy, start it with --public-url.",
        )
    if not in_api(path):
        return
    origin = said.get(b"origin")
    if origin is not None and origin.lower() != place.origin(host):
        raise Problem(403, "foreign-origin", "Another site's page may not call this API.")
    if said.get(b"sec-fetch-site", b"none") not in SAME_SITE:
        raise Problem(403, "foreign-origin", "Another site's page may not call this API.")


def in_api(path: bytes) -> bool:
    """Return whether a path belongs to the API, not to the page."""
    return path == API or path.startswith(API + b"/")


def check_body(method: str, said: Mapping[bytes, bytes]) -> bool:
    """
    Return whether the request has a body, and refuse one of a wrong kind or size.

    Raises:
        Problem: 413 or 415.
    """
    length = said.get(b"content-length")
    if length is None and b"transfer-encoding" not in said:
        return False
    if length is not None and int(length) > LARGEST_BODY:
        raise too_large()
    if length == b"0":
        return False
    if said.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "media-type", "The body must not be compressed.")
    kind, _, parameters = said.get(b"content-type", b"").decode("latin-1").partition(";")
    kind = kind.strip().lower()
    known = kind == JSON or (method == "PATCH" and kind == MERGE_PATCH)
    if not known or parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
        raise Problem(415, "media-type", f"The body must be {JSON}, in UTF-8.")
    return True


def too_large() -> Problem:
    """Return the problem of a body beyond the limit."""
    return Problem(413, "body-too-large", f"A body has at most {LARGEST_BODY:,} bytes.")
