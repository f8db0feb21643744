"""
What a message of the Model Context Protocol asks for, told from the body of a request.

Behind one path stands every tool of an MCP server, so method and path cannot tell "list the hosts"
from "run a command". The body can, but only if it has one meaning: what two JSON parsers could read
in two ways is refused here, because the service's parser need not be ours.

    >>> body = b'{"jsonrpc":"2.0", "id":7, "method":"tools/call", "params":{"name":"ListHosts"}}'
    >>> message = read(body, [(b"content-type", b"application/json")], "POST")
    >>> message.id, message.method, message.tool, message.fault
    (7, 'tools/call', 'ListHosts', None)
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from metricshub_apikey.http.asgi import Header

LARGEST_BODY = 1 << 20
DEEPEST = 64

CALL = "tools/call"
LIST = "tools/list"

METHODS = frozenset(
    {
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        CALL,
        LIST,
    }
)
"""What a client may send, in the revisions 2024-11-05 to 2026-07-28 of the protocol."""

WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")
"""Methods whose requests need no body."""

REQUEST = frozenset({"jsonrpc", "id", "method", "params"})
ANSWER = frozenset({"jsonrpc", "id", "result", "error"})

CONTENT_TYPE = re.compile(rb'(?i)\s*application/json\s*(?:;\s*charset\s*=\s*("?)utf-8\1\s*)?')
ENCODED_NAME = re.compile(r"=\?base64\?(.*)\?=")

PARSE_ERROR = -32700
INVALID_REQUEST = -32600


class Fault(NamedTuple):
    """Why a message cannot pass: a stable name for the log, a sentence, a code of JSON-RPC."""

    reason: str
    sentence: str
    code: int = INVALID_REQUEST


class Message(NamedTuple):
    """
    What a request with a body says.

    Attributes:
        id: Of the request, for the answer; None where there is none, or it cannot be read.
        method: One of `METHODS`; None for an answer of the client, and where there is no body.
        tool: Which tool is called; None for all methods but `tools/call`.
        fault: Why it cannot pass, whatever the key may do.
    """

    id: str | int | None = None
    method: str | None = None
    tool: str | None = None
    fault: Fault | None = None

    @property
    def lists_tools(self) -> bool:
        """Whether the answer lists the tools of the server."""
        return self.method == LIST


UNSEEN = Message(
    fault=Fault(
        "mcp-unseen",
        "The proxy does not show the body of MCP requests to the gateway; "
        "send this path through apikey serve --upstream.",
    )
)
"""The message of a request whose body the proxy keeps to itself."""

TOO_LARGE = Message(
    fault=Fault("mcp-too-large", "An MCP message may have at most 1 MiB.", PARSE_ERROR)
)


class _UnreadableError(Exception):
    """A message has no meaning, or more than one."""

    def __init__(self, why: str, code: int = INVALID_REQUEST) -> None:
        super().__init__(f"The MCP message is refused: {why}.")
        self.code = code


def read(body: bytes, headers: Sequence[Header], http_method: str) -> Message:
    """
    Return what a request asks for; a message that cannot be read has a fault.

    Args:
        body: All of it, at most `LARGEST_BODY` bytes; more is a fault.
        headers: Of the request, names in lower case.
        http_method: Of the request.
    """
    if not body and http_method in WITHOUT_BODY:
        return Message()
    if len(body) > LARGEST_BODY:
        return TOO_LARGE
    number: str | int | None = None
    try:
        document = _document(body, headers)
        number = _id(document)
        method, tool = _meaning(document)
        _check_headers(headers, method, tool)
    except _UnreadableError as why:
        return Message(number, fault=Fault("mcp-unreadable", str(why), why.code))
    return Message(number, method, tool)


def _document(body: bytes, headers: Sequence[Header]) -> dict[str, Any]:
    """Return the members of the one JSON object that a body has to be (RFC 8259)."""
    types = [value for name, value in headers if name == b"content-type"]
    if len(types) != 1 or not CONTENT_TYPE.fullmatch(types[0]):
        raise _UnreadableError("its Content-Type is not application/json in UTF-8", PARSE_ERROR)
    if any(name == b"content-encoding" for name, _ in headers):
        raise _UnreadableError("it has a Content-Encoding", PARSE_ERROR)
    document = parse(body)
    if isinstance(document, list):
        raise _UnreadableError("a list of messages (a batch) is not supported")
    if not isinstance(document, dict):
        raise _UnreadableError("it is not a JSON object")
    return document


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return what strict JSON says; raises _UnreadableError."""
    try:
        document = STRICT.decode(body.decode())
    except UnicodeDecodeError:
        raise _UnreadableError("it is not in UTF-8", PARSE_ERROR) from None
    except RecursionError:
        raise _UnreadableError(f"it is nested deeper than {DEEPEST} levels", PARSE_ERROR) from None
    except ValueError:
        raise _UnreadableError("it is not strict JSON (RFC 8259)", PARSE_ERROR) from None
    if body.count(b"{") + body.count(b"[") > DEEPEST and _is_deep(document):
        raise _UnreadableError(f"it is nested deeper than {DEEPEST} levels", PARSE_ERROR)
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _UnreadableError("a member of an object comes twice", PARSE_ERROR)
    return members


def _no_constant(name: str) -> None:
    raise _UnreadableError(f"{name} is not JSON", PARSE_ERROR)


STRICT = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant)
LENIENT = json.JSONDecoder(object_pairs_hook=_members)


def _is_deep(document: object) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        level = [one for value in level for one in _children(value)]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _id(document: dict[str, Any]) -> str | int | None:
    """Return the request's id: a text or a whole number; None where there is none."""
    number = document.get("id")
    if isinstance(number, str) or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    if "id" in document and not (number is None and "error" in document):
        raise _UnreadableError("its id is not a text or a whole number")
    return None


def _meaning(document: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the method and, of a call, the tool; None and None for an answer of the client."""
    if document.get("jsonrpc") != "2.0":
        raise _UnreadableError("it is not JSON-RPC 2.0")
    names = document.keys()
    if "method" not in names:
        if not names <= ANSWER or ("result" in names) is ("error" in names):
            raise _UnreadableError("it is neither a request nor an answer of JSON-RPC")
        return None, None
    if not names <= REQUEST:  # `Method` is `method` to parsers that ignore letter case
        raise _UnreadableError("it has a member that no request of JSON-RPC has")
    method, params = document["method"], document.get("params")
    if not isinstance(method, str) or method not in METHODS:
        raise _UnreadableError("its method is not one of the protocol's")
    if params is not None and not isinstance(params, dict):
        raise _UnreadableError("its params are not an object")
    return method, _tool(params or {}) if method == CALL else None


def _tool(params: dict[str, Any]) -> str:
    """Return the name of the tool that is called; no other member may pass for its name."""
    name = params.get("name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise _UnreadableError("it does not name a tool")
    for member in params:
        if member != "name" and member.partition("\0")[0].casefold() == "name":
            raise _UnreadableError("it names a tool twice")
    return name


def _check_headers(headers: Sequence[Header], method: str | None, tool: str | None) -> None:
    """Refuse headers of revision 2026-07-28 that contradict the body."""
    for name, value in headers:
        if name == b"mcp-method" and value.decode("latin-1").strip() != method:
            raise _UnreadableError("its header Mcp-Method names another method")
        if name == b"mcp-name" and tool is not None and _decoded(value) != tool:
            raise _UnreadableError("its header Mcp-Name names another tool")


def _decoded(value: bytes) -> str | None:
    """Return the name in an Mcp-Name header; what is not printable ASCII is in Base64 there."""
    text = value.decode("latin-1").strip()
    encoded = ENCODED_NAME.fullmatch(text)
    if encoded is None:
        return text
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def error(number: str | int | None, code: int, sentence: str) -> bytes:
    """
    Return an error of JSON-RPC, which MCP clients show to the person before them.

    Args:
        number: The id of the request; None where it is not known.
        code: Of JSON-RPC, or the status of HTTP.
        sentence: What is wrong.
    """
    said = {"code": code, "message": sentence}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": said}).encode()


def filtered(data: bytes, may_call: Callable[[str], bool]) -> bytes | None:
    """
    Return an answer of the service with only those tools in it that the client may call.

    Args:
        data: A message, or a list of messages, in JSON.
        may_call: Says so of each tool, by its name.

    Returns:
        The same bytes where they hold no list of tools; None where they cannot be read.
    """
    if b"tools" not in data and rb"\u" not in data:
        return data
    try:
        document = LENIENT.decode(data.decode())
    except (ValueError, RecursionError, _UnreadableError):
        return None
    messages = document if isinstance(document, list) else [document]
    changed = [_without_others(message, may_call) for message in messages]
    return json.dumps(document, ensure_ascii=False).encode() if any(changed) else data


def _without_others(message: object, may_call: Callable[[str], bool]) -> bool:
    """Take the tools out of a message that may not be called; return whether it lists tools."""
    result = message.get("result") if isinstance(message, dict) else None
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(tools, list):
        return False
    result["tools"] = [
        tool
        for tool in tools
        if isinstance(tool, dict) and isinstance(tool.get("name"), str) and may_call(tool["name"])
    ]
    result["cacheScope"] = "private"
    return True
