"""Requests and answers, as the routes see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .callers import Caller
from .problems import Problem

JSON = b"application/json"
PROBLEM = b"application/problem+json"

Headers = tuple[tuple[bytes, bytes], ...]


class Answer(NamedTuple):
    """A status, headers beside those that every answer has, and a body."""

    status: int
    headers: Headers = ()
    body: bytes = b""


class Request(NamedTuple):
    """
    One request to the API, checked.

    Attributes:
        method: GET for HEAD, too.
        path: As it was sent, without the query.
        alias: The key that the path names; empty where it names none.
        query: The parameters, each with its values.
        said: The headers by name.
        body: As it was sent.
        caller: Who sends it; None where no token is needed.
        token: The bearer token; empty where none is needed.
        address: The client's address.
    """

    method: str
    path: bytes
    alias: str
    query: Mapping[str, list[str]]
    said: Mapping[bytes, bytes]
    body: bytes
    caller: Caller | None
    token: str
    address: str

    @property
    def sender(self) -> Caller:
        """The caller of a route that needs a token."""
        if self.caller is None:
            raise AssertionError(f"{self.path!r} has no caller")
        return self.caller

    def header(self, name: bytes) -> str | None:
        """Return a header as text; None where it is not there."""
        value = self.said.get(name)
        return None if value is None else value.decode("latin-1")


def reply(document: object, status: int = 200, headers: Headers = (), kind: bytes = JSON) -> Answer:
    """Return an answer with a JSON document."""
    import json

    body = json.dumps(document, separators=(",", ":")).encode()
    return Answer(status, ((b"content-type", kind), *headers), body)


def refuse(problem: Problem) -> Answer:
    """Return an answer with a problem document."""
    return reply(problem.document(), problem.status, problem.headers, PROBLEM)
