"""The page: three files and an icon, read once, and compressed once."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from importlib import resources

from .answers import Answer
from .problems import Problem

FILES = {
    b"/": ("index.html", b"text/html; charset=utf-8"),
    b"/console.css": ("console.css", b"text/css; charset=utf-8"),
    b"/console.js": ("console.js", b"text/javascript; charset=utf-8"),
    b"/icon.svg": ("icon.svg", b"image/svg+xml"),
}


COMMENT = re.compile(rb"^ *(?:/\*.*?\*/|// @ts-check)\n", re.MULTILINE | re.DOTALL)
"""A comment on lines of its own: for those who read the source, not for the wire."""


class Page:
    """The files of the page, in memory."""

    def __init__(self) -> None:
        """Read them."""
        folder = resources.files(__package__).joinpath("static")
        self._files: dict[bytes, tuple[Answer, Answer]] = {}
        for path, (name, kind) in FILES.items():
            data = COMMENT.sub(b"", folder.joinpath(name).read_bytes())
            headers = ((b"content-type", kind), (b"vary", b"accept-encoding"))
            packed = (*headers, (b"content-encoding", b"gzip"))
            small = gzip.compress(data, 9, mtime=0)
            self._files[path] = Answer(200, headers, data), Answer(200, packed, small)

    def answer(self, method: str, path: bytes, said: Mapping[bytes, bytes]) -> Answer:
        """Return a file; raises Problem."""
        found = self._files.get(path)
        if found is None:
            raise Problem(404, "no-such-path", "There is nothing at this path.")
        if method != "GET":
            raise Problem(
                405,
                "method-not-allowed",
                "This path is only there to be read.",
                headers=((b"allow", b"GET, HEAD"),),
            )
        return found[b"gzip" in said.get(b"accept-encoding", b"")]
