"""Messages of MCP: what is read from a body, and what never passes, whoever parses it later."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import mcp_types
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metricshub_apikey.gateway.mcp import (
    DEEPEST,
    LARGEST_BODY,
    METHODS,
    Message,
    error,
    filtered,
    read,
)

JSON = [(b"content-type", b"application/json")]
JARS = ":".join(
    f"/usr/share/java/jackson-{part}.jar" for part in ("core", "databind", "annotations")
)
PARSERS = Path(__file__).with_name("parsers")


def call(tool: str = "ListHosts", **members: object) -> dict[str, object]:
    """Return the message that calls a tool."""
    params = {"name": tool, "arguments": {}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **members}


def said(message: object, headers: list[tuple[bytes, bytes]] | None = None) -> Message:
    """Return what is read from a message that a client posts."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return read(body, JSON if headers is None else headers, "POST")


def why(message: Message) -> str:
    """Return why a message is refused, without the words that all refusals share."""
    assert message.fault is not None, message
    return message.fault.sentence.removeprefix("The MCP message is refused: ")


def test_methods_of_the_protocol() -> None:
    """All that a client may send in any published revision passes, and nothing else."""
    wanted = set()
    for union in (mcp_types.ClientRequest, mcp_types.ClientNotification):
        members = get_args(union)
        wanted |= {member.model_fields["method"].default for member in members}
    assert len(wanted) > 15
    assert wanted - {None} <= METHODS


@pytest.mark.parametrize("method", sorted(METHODS - {"tools/call"}))
def test_other_methods_pass(method: str) -> None:
    """A method of the protocol is named; with it passes what the path allows."""
    assert said({"jsonrpc": "2.0", "id": "a", "method": method}) == Message("a", method)


def test_calls() -> None:
    """A call names its tool, with an id or without, however the name is escaped."""
    assert said(call()) == Message(1, "tools/call", "ListHosts")
    without = call()
    del without["id"]
    assert said(without) == Message(None, "tools/call", "ListHosts")
    escaped = json.dumps(call()).replace("ListHosts", r"\u004cistHosts").encode()
    assert said(escaped).tool == "ListHosts"


def test_answers_of_the_client_pass() -> None:
    """What a client answers to a question of the server calls nothing."""
    assert said({"jsonrpc": "2.0", "id": 1, "result": {}}) == Message(1)
    assert said({"jsonrpc": "2.0", "id": None, "error": {"code": 1}}) == Message()
    assert read(b"", [], "GET") == Message()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "it is not strict JSON (RFC 8259)."),
        (b"{", "it is not strict JSON (RFC 8259)."),
        (b"{} {}", "it is not strict JSON (RFC 8259)."),
        (b"\xef\xbb\xbf{}", "it is not strict JSON (RFC 8259)."),
        (b'{"a": "\xff"}', "it is not in UTF-8."),
        (b'{"a": "\n"}', "it is not strict JSON (RFC 8259)."),
        (b'{"a": NaN}', "NaN is not JSON."),
        (b'{"a": -Infinity}', "-Infinity is not JSON."),
        (b"[]", "a list of messages (a batch) is not supported."),
        (b"7", "it is not a JSON object."),
        (b'{"a": 1, "\\u0061": 2}', "a member of an object comes twice."),
        (b"[" * 100_000, "it is nested deeper than 64 levels."),
        (b'{"jsonrpc": 2.0, "method": "ping"}', "it is not JSON-RPC 2.0."),
        (b'{"jsonrpc": "2.0"}', "it is neither a request nor an answer of JSON-RPC."),
        (
            b'{"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}',
            "it is neither a request nor an answer of JSON-RPC.",
        ),
    ],
)
def test_what_is_no_message(body: bytes, sentence: str) -> None:
    """A body without exactly one meaning is refused with what is wrong with it."""
    assert why(said(body)) == sentence


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"method": "tools/delete"}, "its method is not one of the protocol's."),
        ({"method": "Tools/Call"}, "its method is not one of the protocol's."),
        ({"method": ["tools/call"]}, "its method is not one of the protocol's."),
        ({"Method": "tools/call"}, "it has a member that no request of JSON-RPC has."),
        ({"result": {}}, "it has a member that no request of JSON-RPC has."),
        ({"params": ["ListHosts"]}, "its params are not an object."),
        ({"params": {}}, "it does not name a tool."),
        ({"params": None}, "it does not name a tool."),
        ({"params": {"name": ["ListHosts"]}}, "it does not name a tool."),
        ({"params": {"name": ""}}, "it does not name a tool."),
        ({"params": {"name": "List\ud800"}}, "it does not name a tool."),
        ({"params": {"name": "Delete\0List"}}, "it does not name a tool."),
        ({"params": {"name": "a", "Name": "b"}}, "it names a tool twice."),
        ({"params": {"name": "a", "name\0": "b"}}, "it names a tool twice."),
        ({"id": None}, "its id is not a text or a whole number."),
        ({"id": True}, "its id is not a text or a whole number."),
        ({"id": 1.5}, "its id is not a text or a whole number."),
        ({"id": {}}, "its id is not a text or a whole number."),
    ],
)
def test_wrong_members(members: dict[str, object], sentence: str) -> None:
    """Wrong types and second names are refused, with the request's id where it can be read."""
    message = said({**call(), **members})
    assert why(message) == sentence
    assert message.id == (None if "id" in members else 1)


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ([(b"content-type", b"application/json; charset=UTF-8")], True),
        ([(b"content-type", b'Application/JSON;charset="utf-8"')], True),
        ([(b"content-type", b"application/json; charset=utf-16")], False),
        ([(b"content-type", b"text/plain")], False),
        ([(b"content-type", b"application/json, text/plain")], False),
        ([], False),
        (JSON * 2, False),
        ([*JSON, (b"content-encoding", b"gzip")], False),
        ([*JSON, (b"mcp-method", b"tools/call"), (b"mcp-name", b"ListHosts")], True),
        ([*JSON, (b"mcp-method", b"ping")], False),
        ([*JSON, (b"mcp-name", b"Delete")], False),
        ([*JSON, (b"mcp-name", b"=?base64?TGlzdEhvc3Rz?=")], True),
        ([*JSON, (b"mcp-name", b"=?base64?*?=")], False),
    ],
)
def test_headers(headers: list[tuple[bytes, bytes]], *, passes: bool) -> None:
    """The body is UTF-8 as it stands, and no header says something else about it."""
    assert (said(call(), headers).fault is None) is passes


def test_bounds() -> None:
    """64 levels and 1 MiB pass, one more of either does not."""

    def nested(levels: int) -> object:
        return nested(levels - 1) if not levels else [nested(levels - 1)] if levels > 1 else []

    deep = call(params={"name": "a", "arguments": nested(DEEPEST - 2)})
    assert said(deep).fault is None
    deep = call(params={"name": "a", "arguments": nested(DEEPEST - 1)})
    assert why(said(deep)) == "it is nested deeper than 64 levels."
    bare = len(json.dumps(call("")))
    assert said(call("a" * (LARGEST_BODY - bare))).fault is None
    fault = said(call("a" * (LARGEST_BODY - bare + 1))).fault
    assert fault is not None
    assert fault.reason == "mcp-too-large"


# Filtering


def test_lists_of_tools_are_filtered() -> None:
    """The client sees the tools that it may call; what is no list of tools stays as it is."""
    tools = [{"name": "ListHosts", "title": "é"}, {"name": "Execute"}, {"name": 7}, "x"]
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()
    kept = filtered(answer, lambda tool: tool.startswith("List"))
    assert kept is not None
    assert json.loads(kept)["result"] == {"tools": tools[:1], "cacheScope": "private"}
    batch = filtered(b"[" + answer + b"]", lambda _: False)
    assert batch is not None
    assert json.loads(batch)[0]["result"]["tools"] == []
    for other in (b'{"result": {"content": "tools"}}', b"[1, {}]", b'{"result": NaN}'):
        assert filtered(other, lambda _: False) is other
    assert filtered(b'{"result": {"tools": [}', lambda _: True) is None


def test_errors_are_messages() -> None:
    """A refusal is an error of JSON-RPC with the id of the request."""
    assert json.loads(error("a", 403, "No.")) == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": 403, "message": "No."},
    }


# Other parsers


def by_python(body: bytes) -> str | None:
    """Return which tool a Python service would call."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    called = None
    for one in document if isinstance(document, list) else [document]:
        if isinstance(one, dict) and one.get("method") == "tools/call":
            params = one.get("params")
            called = str(params.get("name")) if isinstance(params, dict) else "?"
    return called


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Callable[[bytes], Any]]]:
    """Return what reads a body as services do: Python's json, Node's JSON.parse and Jackson."""
    classes = tmp_path_factory.mktemp("classes")
    compile_all = ["javac", "-cp", JARS, "-d", str(classes), str(PARSERS / "Parse.java")]
    subprocess.run(compile_all, check=True)
    commands = (
        ["node", str(PARSERS / "parse.mjs")],
        ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{JARS}", "Parse"],
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for command in commands
        ]

        def asking(process: subprocess.Popen[bytes]) -> Callable[[bytes], Any]:
            def ask(body: bytes) -> Any:  # noqa: ANN401 - a text or None
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(base64.b64encode(body) + b"\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())["called"]

            return ask

        yield [by_python, *map(asking, processes)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()


TEXTS = st.sampled_from(
    ["tools/call", "ping", "tools/list", "ListHosts", "Execute", "2.0", "name", "ListHosts\0", "é"]
)
NAMES = st.sampled_from(
    ["jsonrpc", "id", "method", "params", "name", "Name", "Method", "arguments", "result", "name "]
)
ODD = st.integers(0, 9).map(lambda number: number == 9)
"""Whether to do something wrong: seldom, so that many messages are wrong in one place only."""


def escaped(text: str) -> str:
    """Return a text of JSON in which each character is escaped."""
    return '"' + "".join(f"\\u{ord(one):04x}" for one in text) + '"'


@st.composite
def spelled(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Return a text as JSON spells it, or almost."""
    text = draw(texts)
    if draw(ODD):
        return draw(st.sampled_from([f"'{text}'", text, f'"{text}\n"']))
    plain = json.dumps(text, ensure_ascii=False)
    return draw(st.sampled_from([plain, json.dumps(text), escaped(text)]))


SCALARS = st.one_of(
    spelled(TEXTS),
    st.sampled_from(["null", "true", "1", "1.0", "-0", "1e999", "NaN", "01", ".5", "/**/1", "[]"]),
)


@st.composite
def spaces(draw: st.DrawFn) -> str:
    """Return white space as JSON knows it, or something else."""
    return draw(st.sampled_from(["\f", "\ufeff", "//x\n", ","] if draw(ODD) else ["", " ", "\n"]))


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Return an object with members of any names, some of them twice."""
    members = draw(st.lists(st.tuples(spelled(NAMES), spaces(), values), max_size=5))
    return "{" + ",".join(f"{name}:{space}{one}" for name, space, one in members) + "}"


@st.composite
def calls(draw: st.DrawFn) -> str:
    """Return a call of a tool that is right but for a few pieces."""

    def usually(right: str, wrong: st.SearchStrategy[str]) -> str:
        return draw(wrong) if draw(ODD) else right

    tool = draw(spelled(st.sampled_from(["ListHosts", "Execute", "é"])))
    params = usually(f'{{"name":{tool}}}', objects(SCALARS))
    method = draw(st.sampled_from(["tools/call", "tools/call", "ping", "tools/list"]))
    pieces = [
        '"jsonrpc":"2.0"',
        f'"id":{usually("1", SCALARS)}',
        f'"method":{usually(json.dumps(method), SCALARS)}',
        f'"params":{params}',
    ]
    if draw(ODD):
        pieces.append(f"{draw(spelled(NAMES))}:{draw(SCALARS | st.just(params))}")
    text = "{" + ("," + draw(spaces())).join(draw(st.permutations(pieces))) + "}"
    return usually(text, st.sampled_from([f"[{text}]", text * 2, f" {text}\n", f"\ufeff{text}"]))


BODIES = st.one_of(
    calls().map(str.encode),
    calls().map(str.encode),
    objects(SCALARS | objects(SCALARS)).map(str.encode),
    calls().map(lambda text: text.encode("utf-16")),
    st.tuples(calls(), st.integers(0, 80), st.binary(max_size=2)).map(
        lambda parts: (data := parts[0].encode())[: parts[1]] + parts[2] + data[parts[1] :]
    ),
)


@settings(max_examples=150, deadline=None)
@given(body=BODIES)
@example(body=json.dumps(call("Execute")).encode())
@example(
    body=b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}'
)
@example(body=json.dumps([call("Execute")]).encode())
def test_no_parser_finds_another_call(parsers: list[Callable[[bytes], Any]], body: bytes) -> None:
    """What passes is, for each parser that a service may have, the call that was decided about."""
    message = read(body, JSON, "POST")
    if message.fault is None:
        assert {parse(body) for parse in parsers} == {message.tool}


def test_the_parsers_read_calls(parsers: list[Callable[[bytes], Any]]) -> None:
    """The parsers beside the test above do find calls, also in bodies that never pass."""
    body = json.dumps(call("Execute")).encode()
    assert [parse(body) for parse in parsers] == ["Execute"] * 3
    twice = b'{"method": "ping", "method": "tools/call", "params": {"name": "x"}}'
    assert [parse(twice) for parse in parsers] == ["x"] * 3
    assert why(said(twice)) == "a member of an object comes twice."
