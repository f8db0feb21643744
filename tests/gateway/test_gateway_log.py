"""The gateway's log: what is in a line, what never is, and readers that do not read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from metricshub_apikey.gateway import log as log_module
from metricshub_apikey.gateway.credential import Identity
from metricshub_apikey.gateway.decision import FORBIDDEN, INVALID, Answer, Request
from metricshub_apikey.gateway.log import MOST_WAITING, Form, Log
from servers import wait_until

KEY = "2d8cb6f0-0a5e-4f0e-9c6e-0123456789ab"
CI = Identity("ci", "robot", ("reader",))
REFUSED = FORBIDDEN._replace(identity=CI)
ACCEPTED = Answer(200, "accepted", [], b"", CI)
PIPE_SIZE = 4_096

HOSTILE = [
    "/a\n2027-01-01T00:00:00Z decision=200 reason=accepted alias=admin",
    "/a\r\nx",
    "/\x1b[2J\x1b]0;owned\x07",
    "/\x00\x7f\x9b31m",
    "/caf\xe9/\u2028\u202e\ufeff",
    '/"quoted" decision=200',
    "/\udcff",
    "/=",
]


@contextlib.contextmanager
def standard_error(descriptor: int) -> Iterator[None]:
    """Make standard error something else for a while, as it would be for a server."""
    with pytest.MonkeyPatch.context() as patch, open(descriptor, "w", closefd=False) as stream:
        patch.setattr(sys, "stderr", stream)
        yield


def logged(
    write: Callable[[Log], object], form: Form = "text", *, everything: bool = False
) -> list[str]:
    """Return the lines that come of what *write* does with a log."""
    path = os.memfd_create("log")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, path)
        with standard_error(path):
            log = Log(form, everything=everything)
            write(log)
            log.close()
        os.lseek(path, 0, os.SEEK_SET)
        return os.read(path, 1 << 24).decode().splitlines()


def decided(
    target: str | None, answer: Answer = REFUSED, *, form: Form = "text", method: str = "GET"
) -> str:
    """Return the line for one decision, without its time."""
    request = Request(method, target, [b"Bearer " + KEY.encode()])
    (line,) = logged(lambda log: log.decision(request, answer), form, everything=True)
    if form == "json":
        return line
    moment, _, rest = line.partition(" ")
    assert time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")
    return rest


def test_a_line_of_text() -> None:
    """A decision is one line of names and values."""
    assert decided("/api/hosts") == (
        "decision=403 reason=not-permitted alias=ci principal=robot method=GET path=/api/hosts"
    )
    assert decided(None, INVALID) == "decision=401 reason=unknown method=GET"


def test_a_line_of_json() -> None:
    """The same as JSON, where what is not known is null."""
    known: dict[str, Any] = json.loads(decided("/api/hosts", form="json"))
    assert time.strptime(known.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert known == {
        "decision": 403,
        "reason": "not-permitted",
        "alias": "ci",
        "principal": "robot",
        "method": "GET",
        "path": "/api/hosts",
        "tool": None,
    }
    unknown = json.loads(decided(None, INVALID, form="json"))
    assert [unknown[name] for name in ("alias", "principal", "path")] == [None] * 3


def test_only_refusals_unless_asked() -> None:
    """What passes is logged only where everything is."""
    request = Request("GET", "/", [])

    def decide(log: Log) -> None:
        log.decision(request, ACCEPTED)
        log.decision(request, REFUSED)

    assert [line.split()[1] for line in logged(decide)] == ["decision=403"]
    assert [line.split()[1] for line in logged(decide, everything=True)] == [
        "decision=200",
        "decision=403",
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_key_in_any_line(form: Form) -> None:
    """Neither the header nor the query, where some clients put their key, is logged."""
    line = decided(f"/api?key={KEY}&x=1", INVALID, form=form)
    assert KEY not in line
    assert "x=1" not in line


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("text", HOSTILE)
def test_nobody_forges_lines(text: str, form: Form) -> None:
    """Whatever a path, a method, an alias or a message holds, it stays in its place in its line."""
    identity = Identity(text, text, ())
    answer = FORBIDDEN._replace(identity=identity)
    request = Request(text, text, [])
    for line in [
        *logged(lambda log: log.decision(request, answer), form),
        *logged(lambda log: log.say(f"There is no {text}."), form),
    ]:
        assert line.isprintable()
        assert "decision=200" not in line.replace('"', " ").split()[:3]
        if form == "json":
            assert text in " ".join(map(str, json.loads(line).values()))
    (line,) = logged(lambda log: log.decision(request, answer), "text")
    assert line.split(" ")[1:3] == ["decision=403", "reason=not-permitted"]
    _, _, path = line.partition(" path=")
    assert text in (path, json.loads(path) if path.startswith('"') else path)


@examples(60)
@given(st.text(st.characters(), max_size=30), st.sampled_from(["text", "json"]))
def test_any_text_is_one_line(text: str, form: Form) -> None:
    """Each thing said is one printable line, whatever is in it, and no line is missing."""

    def write(log: Log) -> None:
        log.say(text)
        log.decision(Request(text, text, []), FORBIDDEN._replace(identity=Identity(text, "", ())))

    lines = logged(write, form)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_messages_are_plain_sentences() -> None:
    """People read messages: quotes and letters beyond ASCII stay as they are."""
    (line,) = logged(lambda log: log.say('There is no role "café" in C:\\Temp.'))
    assert line.endswith('Z There is no role "café" in C:\\Temp.')


def test_a_long_path_is_cut() -> None:
    """One request cannot fill the disk."""
    assert len(decided("/" + "a" * 100_000)) < 1_000


def pipe_that_nobody_reads() -> tuple[int, int]:
    """Return both ends of a small pipe."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return read, write


def test_a_reader_that_does_not_read_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log's pipe is full decisions go on, and lines that were lost are counted."""
    monkeypatch.setattr(log_module, "MOST_WAITING", 200)
    read, write = pipe_that_nobody_reads()
    request = Request("GET", "/" + "a" * 80, [])
    with standard_error(write):
        log = Log()
        began = time.monotonic()
        for _ in range(1_000):
            log.decision(request, REFUSED)
        taken = time.monotonic() - began
        received: list[bytes] = []
        reader = threading.Thread(
            target=lambda: received.extend(iter(partial(os.read, read, PIPE_SIZE), b""))
        )
        reader.start()
        wait_until(log._waiting.empty, "the log is written")
        log.say("The end.")
        log.close()
    os.close(write)
    reader.join()
    os.close(read)
    assert taken < 1, "200 lines wait, the pipe holds 30; nobody waited for them"
    lines = b"".join(received).decode().splitlines()
    lost = sum(int(line.split(" ")[1]) for line in lines if "were lost" in line)
    assert sum("decision=403" in line for line in lines) + lost == 1_000
    assert lost > 500
    assert lines[-1].endswith("The end.")


def test_closing_waits_for_nobody_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server ends although nobody reads its log."""
    monkeypatch.setattr(log_module, "CLOSE_SECONDS", 0.1)
    read, write = pipe_that_nobody_reads()
    with standard_error(write):
        log = Log()
        for _ in range(200):
            log.say("x" * 100)
        began = time.monotonic()
        log.close()
        assert time.monotonic() - began < 2
        os.set_blocking(read, False)
        with contextlib.suppress(BlockingIOError):
            while os.read(read, 1 << 16):  # the thread goes on, and ends
                time.sleep(0.01)
    os.close(read)
    os.close(write)


def test_what_waits_is_bounded() -> None:
    """The memory for lines that nobody takes has an end."""
    assert MOST_WAITING * (log_module.LONGEST_PATH + 500) < 32 << 20


def test_a_reader_that_is_gone_does_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    """After the log's reader has ended, decisions go on as if nothing had happened."""
    read, write = os.pipe()
    os.close(read)
    with standard_error(write):
        log = Log()
        log.say("Nobody hears this.")
        log.close()
        log.say("Nor this.")
        log.close()
    os.close(write)
    assert capfd.readouterr() == ("", "")


def test_without_standard_error() -> None:
    """A service without standard error works, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        log = Log()
        log.say("Nobody hears this.")
        log.close()


def test_a_closed_log_opens_again() -> None:
    """An application that is started again after its end still has a log."""

    def write(log: Log) -> None:
        log.say("one")
        log.close()
        log.say("two")

    assert [line.split()[-1] for line in logged(write)] == ["one", "two"]


FORKED = """
import os
from metricshub_apikey.gateway.log import Log
log = Log()
log.say("The parent.")
while log._waiting.qsize():
    pass
child = os.fork()
if child == 0:
    log.say("The child.")
    log.close()
    os._exit(0)
os.waitpid(child, 0)
log.say("The parent again.")
log.close()
"""


def test_processes_that_were_forked_write_their_lines(tmp_path: Path) -> None:
    """A server that forks after its log has begun has lines of all its processes."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        cwd=tmp_path,
    )
    said = [line.partition(" ")[2] for line in done.stderr.splitlines() if "Warning" not in line]
    assert said[:1] + said[-1:] == ["The parent.", "The parent again."]
    assert said.count("The child.") == 1
