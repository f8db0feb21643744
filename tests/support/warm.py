"""
The real command without its start: forked off a process that has imported everything.

Starting Python and importing is two thirds of what a command costs, and tests run it by the
thousand. All that follows is as ever: a process of its own, with its own arguments, environment,
streams, exit code and end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

PROGRAM = """
import csv, difflib, json, os, platformdirs, rich.console, rich.table, rich.text, shlex, signal
import socket, sqlite3, sys, time, tomllib, unicodedata, uuid, yaml
from metricshub_apikey import __main__
from metricshub_apikey.cli.commands import apply, check, completion, create, edit
from metricshub_apikey.cli.commands import list, log, path, policy, prune, revoke, rotate
from metricshub_apikey.cli.commands import scan, show, verify

def command():
    requests = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        passed = socket.recv_fds(requests, 1, 6)[1]
        if not passed:
            os._exit(0)
        if not os.fork():
            requests.detach()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return begin(*passed)
        for one in passed:
            os.close(one)

def begin(stdin, stdout, stderr, folder, request, result):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    child = os.fork()
    if child:
        os.write(result, b"%d\\n" % child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(result, b"%d" % code)
        os._exit(0)
    with open(request, closefd=False) as file:
        arguments, environment, waits = json.load(file)
    os.fchdir(folder)
    for number, one in enumerate((stdin, stdout, stderr)):
        os.dup2(one, number)
    os.closerange(3, result + 1)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["apikey", *arguments]
    signal.alarm(60)
    if waits:
        signal.sigwait([signal.SIGUSR1])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

command()
__main__.main()
"""
"""
It forks for each request, and what it forks goes on after `command()`. The process in between
tells its number, waits for its end and tells the exit code.
"""

FIXED_AT_THE_START = ("COV", "LC_", "PYTHON")
"""How variables begin that Python looks at only when it starts; `LANG` is the one that it has."""

MOST_CHARACTERS = 5_000
"""What surely fits into a pipe, whether anybody reads it or not."""


class WarmCommand:
    """Runs the command in forks of a process that was started once."""

    def __init__(self, **variables: str) -> None:
        """Start the process, with these environment variables."""
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,  # as a command's is: nothing that can be sought
                env={**os.environ, "LANG": "C.UTF-8", **variables},
            )

    def can_run(
        self, arguments: Sequence[str], environment: Mapping[str, str], given: str | None
    ) -> bool:
        """Tell whether a fork would do what a process that is started does."""
        return (
            sum(map(len, (*arguments, *environment.values(), given or ""))) < MOST_CHARACTERS
            and environment.get("LANG") == "C.UTF-8"
            and not any(name.startswith(FIXED_AT_THE_START) for name in environment)
        )

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        given: str | None = None,
        *,
        watch: Callable[[int], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, its input *given* or none; first *watch* gets its number."""
        stdout, stderr, result = os.pipe(), os.pipe(), os.pipe()
        theirs = [
            os.open(os.devnull, os.O_RDONLY) if given is None else _filled(given),
            stdout[1],
            stderr[1],
            os.open(".", os.O_RDONLY),
            _filled(json.dumps([list(arguments), dict(environment), watch is not None])),
            result[1],
        ]
        socket.send_fds(self._requests, [b"."], theirs)
        for one in theirs:
            os.close(one)
        with ThreadPoolExecutor(1) as other, open(result[0]) as told:
            errors = other.submit(_read, stderr[0])
            number = int(told.readline())
            if watch is not None:
                watch(number)
                os.kill(number, signal.SIGUSR1)
            printed, code = _read(stdout[0]), int(told.read())
        return subprocess.CompletedProcess(arguments, code, printed, errors.result())

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._process.communicate()


def _filled(text: str) -> int:
    """Return the end of a pipe out of which *text* can be read."""
    output, filled = os.pipe()
    with open(filled, "w") as file:
        file.write(text)
    return output


def _read(pipe: int) -> str:
    with open(pipe) as file:
        return file.read()
