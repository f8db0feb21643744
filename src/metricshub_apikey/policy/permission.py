"""
What a role allows: requests, told by their method and path.

A rule is a method and a path: `GET /api/**`, `POST /api/v1/metrics/*`, `* /**`. What no rule names
is denied. Rules are compared with paths that `normalise` has made unambiguous, and with no others.

    >>> reader = Permission(["GET /api/**"])
    >>> reader.allows("GET", normalise("/api/v1/hosts?all=1")), reader.allows("PUT", "/api/v1")
    (True, False)
    >>> normalise("/api/%7Eme/caf%c3%a9")
    '/api/~me/caf%C3%A9'
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from metricshub_apikey.errors import InvalidArgumentError

METHOD = r"[A-Z][A-Z0-9_-]*"
ANY = "*"
ANYTHING = "**"

# A path in a rule's expression: neither these characters nor a method has a space, so that the
# space between the two stands in one place only.
CHARACTER = "[!-.0-~]"
SEGMENT = f"{CHARACTER}++"
REST = "[!-~]*"

EXAMPLE = "A rule is a method and a path, such as 'GET /api/**' or '* /**'."

PATH_CHARACTERS = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
"""What RFC 3986 allows in an absolute path; no upstream agrees with another about the rest."""

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
DECODED = {f"{ord(character):02X}": character for character in UNRESERVED}

ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")

AMBIGUOUS = re.compile(
    r"/(?:\.|%20)*(?:/|;|%3B)"  # a segment without a name, whatever its parameters (/..;/)
    r"|/(?:\.|%20)+(?:%3F|%23|\Z)"
    r"|%(?:[01][0-9A-F]|7F|C2%[89][0-9A-F])"  # a control character
    r"|%(?:25|2F|5C)"  # percent, slash, backslash
)
"""What could be another path for a server that decodes it, or that takes it for a file's name."""

PARAMETERS = re.compile(r";[^/]*")
DECODED_PARAMETERS = re.compile(r"(?:;|%3B)[^/]*")
DECODED_END = re.compile(r"%3F|%23")


def readings(path: str) -> set[str]:
    """
    Return each path that some server may take *path* for, *path* itself among them.

    Tomcat, Jetty and Spring cut path parameters off each segment, some of them after they have
    decoded it; other servers decode a path and only then look for `?` and `#`.

    Args:
        path: As `normalise` returned it.
    """
    found = {path, DECODED_END.split(path, maxsplit=1)[0]}
    found |= {cut.sub("", one) for one in found for cut in (PARAMETERS, DECODED_PARAMETERS)}
    return found | {DECODED_END.split(one, maxsplit=1)[0] for one in found}


class Permission:
    """
    The requests that a role's rules allow, in one regular expression; all others are denied.

    A path is allowed only if each of its `readings` is: `/files/*.txt` is not `/files/secret;.txt`,
    which Tomcat takes for `/files/secret`.

    In a path `*` stands for characters within one segment (alone in it, for at least one), and
    `**`, alone in its segment, for any number of segments: `/api/**` is everything below `/api/`,
    not `/api` itself. Methods are not related: who may GET may not HEAD unless a rule
    says so.

    Its work grows with the length of the path times that of the rules, whatever the path: what
    stands between two asterisks is taken where it fits first, and not looked for again.

    Args:
        rules: A method or `*`, one space and a path each; none allow nothing.

    Raises:
        InvalidArgumentError: One of them is no rule, or no request could ever fit it.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        self._expression = re.compile("|".join(map(_rule, rules)) or r"(?!)")

    def allows(self, method: str, path: str) -> bool:
        """Return whether a request of a *path* that `normalise` returned is allowed."""
        fits = self._expression.fullmatch
        if ";" not in path and "%" not in path:
            return fits(f"{method} {path}") is not None
        return all(fits(f"{method} {one}") for one in readings(path))


def _rule(rule: str) -> str:
    """Return the regular expression for one rule."""
    method, _, path = rule.partition(" ")
    if not (method == ANY or re.fullmatch(METHOD, method)):
        raise _bad_rule(rule, f"'{method}' is not a method in upper case, nor *")
    try:
        return f"{METHOD if method == ANY else re.escape(method)} {path_expression(path)}"
    except InvalidArgumentError as error:
        raise _bad_rule(rule, error.message[:-1]) from None


def path_expression(path: str) -> str:
    """
    Return the regular expression for the path of a rule.

    Raises:
        InvalidArgumentError: No request could ever fit it.
    """
    if not path.startswith("/"):
        raise InvalidArgumentError("its path does not start with a slash.")
    try:
        normal = normalise(path)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"no request has such a path: {error.message}") from None
    if normal != path:
        raise InvalidArgumentError(f"no request has such a path; write {normal}.")
    segments = path[1:].split("/")
    if any(ANYTHING in segment and segment != ANYTHING for segment in segments):
        raise InvalidArgumentError("** stands alone in its segment.")
    return "/" + _path(segments)


def _path(segments: Sequence[str]) -> str:
    """
    Return the regular expression for a rule's path without its first slash.

    The segments between two `**` are a group of fixed length, so taking the first place where
    they fit loses nothing, and the atomic `(?>...)` keeps from trying the others.
    """
    groups: list[str] = [""]
    for segment in segments:
        if segment == ANYTHING:
            groups.append("")
        else:
            groups[-1] += _segment(segment) + "/"
    first, *others = groups
    if not others:
        return first[:-1]
    *middle, last = others
    found = "".join(f"(?>(?:{SEGMENT}/)*?{group})" for group in middle if group)
    return first + found + (f"(?:{SEGMENT}/)*{last[:-1]}" if last else REST)


def _segment(segment: str) -> str:
    """Return the regular expression for one segment, in which `*` may stand several times."""
    if segment == ANY:
        return SEGMENT
    first, *others = map(re.escape, segment.split(ANY))
    if not others:
        return first
    *inner, last = others
    found = "".join(f"(?>{CHARACTER}*?{piece})" for piece in inner)
    return rf"{first}{found}(?>{CHARACTER}*?{last}(?=/|\Z))"


def _bad_rule(rule: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"'{rule}' is not a rule: {why}.", hint=EXAMPLE)


def normalise(target: str) -> str:
    """
    Return the path of a request target, written in the one way that rules are compared with.

    The query is dropped, escaped letters, digits and `-._~` are decoded, other escapes get upper
    case. A path that servers could read in different ways is refused: what passes here as
    `/public/%2e%2e/admin` must not reach `/admin` there.

    Args:
        target: As in the first line of a request: a path, and perhaps `?` and a query.

    Raises:
        InvalidArgumentError: It is no such path, or an ambiguous one.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise InvalidArgumentError("The path of the request does not start with a slash.")
    if not PATH_CHARACTERS.fullmatch(path) or not re.fullmatch(r'[!"$-~]*', query):
        raise InvalidArgumentError(
            "The path of the request has a character that no path has, or a broken escape."
        )
    if "%" in path:
        path = re.sub("%(..)", _normal_escape, path)
        _check_encoding(path)
    if AMBIGUOUS.search(path):
        raise InvalidArgumentError(
            "The path of the request is ambiguous: it has an empty or a dot segment, "
            "or an escaped slash, backslash, percent or control character."
        )
    return path


def _normal_escape(escape: re.Match[str]) -> str:
    digits = escape[1].upper()
    return DECODED.get(digits, f"%{digits}")


def _check_encoding(path: str) -> None:
    """Refuse escapes that are not UTF-8, of which `%C0%AE` for a dot is the known trick."""
    try:
        for run in ESCAPES.findall(path):
            bytes.fromhex(run.replace("%", "")).decode()
    except UnicodeDecodeError:
        raise InvalidArgumentError(
            "The path of the request has escapes that are not UTF-8."
        ) from None
