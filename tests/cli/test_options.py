"""Help, wrong usage, and the options of every command: each line, stream and exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import COMMAND, Run
from metricshub_apikey import __version__
from metricshub_apikey.cli.main import COMMANDS, SECTIONS
from shell import (
    FOREVER,
    Done,
    check,
    check_usage,
    damaged,
    names,
)

# Help and usage


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(run: Run, arguments: list[str], tmp_path: Path) -> None:
    """Alone or asked for help, the command shows its help with all subcommands."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: apikey [OPTIONS] ")
    for word in ("create", "list", "revoke", "path", "METRICSHUB_KEYSTORE", "/opt/metricshub"):
        assert word in done.stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "command", [*sorted({*COMMANDS} - {"policy"}), "policy init", "policy show", "policy check"]
)
def test_help_of_a_command(run: Run, command: str) -> None:
    """The help of each command says what it does, then shows an example, in 80 columns."""
    done = run(*command.split(), "-h" if command == "list" else "--help", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout
    usage, purpose, example, *_ = shown.split("\n\n")
    assert usage.startswith(f"Usage: apikey {command} [OPTIONS]")
    assert re.fullmatch(r"  [A-Z].*\.", purpose, re.DOTALL)
    kind, typed, *_ = example.splitlines()
    assert re.fullmatch(r"  Example(, .*)?:", kind)
    assert typed.lstrip().startswith(("apikey " + command, 'eval "$(apikey ' + command))
    assert "\b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_overview(run: Run) -> None:
    """Sections by task; in 80 columns no command's line is cut; each alias is shown once."""
    shown = run("--help", env={"COLUMNS": "80"}).stdout
    parts = dict(re.findall(r"^([A-Z][\w ]*):\n((?:  .*\n)+)", shown, re.MULTILINE))
    assert list(parts) == [*SECTIONS, "Options", "Options of every command"]
    for heading, listed in SECTIONS.items():
        lines = parts[heading].splitlines()
        assert tuple(line.split()[0] for line in lines) == listed
        assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []
    assert shown.count("ls is list, rm is revoke, delete is revoke.") == 1


def test_the_options_of_every_command_stand_apart(run: Run) -> None:
    """What is a command's own comes first, and is not lost among what all have."""
    own, shared = run("show", "--help").stdout.split("Options of every command:")
    assert "--state" in own
    assert "METRICSHUB_APIKEY_STATE" in own
    for option in ("--keystore", "--policy", "--output", "--timezone", "--help"):
        assert option in shared
        assert option not in own
    for variable in ("KEYSTORE", "KEYSTORE_PASSWORD_FILE", "APIKEY_POLICY"):
        assert f"[METRICSHUB_{variable}]" in "".join(shared.split())


@pytest.mark.parametrize("names", [[], ["list"], ["policy"], ["policy", "check"]])
def test_help_as_a_word(run: Run, names: list[str]) -> None:
    """`apikey help policy check` shows what `apikey policy check --help` shows."""
    assert run("help", *names).stdout == run(*names, "--help").stdout


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["policy", "chekc"], "Did you mean 'check'?"),
        (["help", "rotat"], "Did you mean 'rotate'?"),
        (["policy", "zzz"], "Known are: check, init, show."),
    ],
)
def test_a_mistyped_command(run: Run, typed: list[str], hint: str) -> None:
    """The nearest name is offered; where none is near, all of them."""
    done = run(*typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: No such command '{typed[-1]}'. {hint}"


def test_short_names(run: Run) -> None:
    """What fingers type from habit does what it says."""
    run("create", "a")
    run("create", "b")
    assert run("ls", "-q").stdout == "a\nb\n"
    check(run("rm", "a"), 0, "API key 'a' has been revoked.\n")
    check(run("delete", "b"), 0, "API key 'b' has been revoked.\n")


def test_version(run: Run) -> None:
    """`--version` prints the name and the version."""
    for option in ("--version", "-V"):
        check(run(option), 0, f"apikey {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["list"], ["path"]])
def test_a_full_disk_under_standard_output(run: Run, arguments: list[str]) -> None:
    """What cannot be printed is an error in one line, whatever was to be printed."""
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == ("Error: Standard output cannot be written: No space left on device.\n")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("create", [], "Missing argument 'ALIAS'."),
        ("create", ["a", "b"], "Got unexpected extra argument (b)"),
        ("create", [""], "An alias has 1 to 128 characters."),
        ("create", ["a" * 129], "An alias has 1 to 128 characters."),
        ("create", [" a"], "An alias has no white space at its ends."),
        (
            "create",
            ["a\u202eb"],
            "An alias has no control, text direction or line separator characters.",
        ),
        (
            "create",
            ["x", "--expires-on", "2027-13-01"],
            "'2027-13-01' is not a date time; use YYYY-MM-DDThh:mm:ss.",
        ),
        (
            "create",
            ["x", "--expires-on", ""],
            "'' is not a date time; use YYYY-MM-DDThh:mm:ss.",
        ),
        (
            "create",
            ["x", "--expires-in", "1 day"],
            "'1 day' is not a length of time; use 90d, 12h, 30m, 2w, 1y or 1d12h.",
        ),
        (
            "create",
            ["x", "--expires-in", "1d", "--expires-on", FOREVER],
            "--expires-on and --expires-in exclude each other.",
        ),
        ("create", ["x", "--expires-in", "9000y"], "The expiration is after the year 9999."),
        ("create", ["x", "--nonsense"], "No such option '--nonsense'."),
        ("create", ["x", "--keystore", ""], "The path of the keystore is empty."),
        ("list", ["--keystore", ""], "The path of the keystore is empty."),
        ("list", ["-q", "-o", "json"], "--quiet and --output json exclude each other."),
        ("list", ["x"], "Got unexpected extra argument (x)"),
        (
            "revoke",
            [],
            "Name aliases, or use --leaked, or options that select keys, such as --expired.",
        ),
    ],
)
def test_wrong_usage(
    run: Run, tmp_path: Path, command: str, arguments: list[str], message: str
) -> None:
    """What nobody could mean exits with 2 in Click's words, and nothing is made."""
    done = run(command, *arguments)
    if "-o" in arguments:
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    else:
        check_usage(done, message, command)
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", ["999999y" * 3, "999999w" * 99])
def test_a_life_that_overflows(run: Run, length: str) -> None:
    """A length beyond all calendars is wrong usage, not a traceback."""
    done = run("create", "x", "--expires-in", length)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", "86401", ""])
def test_odd_lock_timeouts(run: Run, seconds: str) -> None:
    """A time to wait is a number of seconds, at most a day."""
    done = run("create", "x", "--lock-timeout", seconds)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: Invalid value for '--lock-timeout'" in done.stderr


# Options for every command


@pytest.mark.parametrize("before", [True, False])
def test_the_keystore_option(run: Run, tmp_path: Path, keystore: Path, *, before: bool) -> None:
    """`--keystore` works before and after the command, and wins over the environment."""
    option = ["--keystore", str(tmp_path / "other.p12")]

    def with_option(*arguments: str) -> Done:
        return run(*option, *arguments) if before else run(*arguments, *option)

    assert with_option("create", "x").returncode == 0
    check(with_option("list", "-q"), 0, "x\n")
    check(with_option("path", "-q"), 0, f"{tmp_path}/other.p12\n")
    check(with_option("path"), 0, f"{tmp_path}/other.p12 (the option --keystore)\n")
    assert not keystore.exists()


def test_the_last_keystore_option_wins(run: Run, tmp_path: Path) -> None:
    """Given before and after the command, the one after it is meant."""
    done = run("--keystore", tmp_path / "a", "path", "-q", "--keystore", tmp_path / "b")
    check(done, 0, f"{tmp_path}/b\n")


def test_the_path_command(run: Run, keystore: Path, tmp_path: Path) -> None:
    """`path` names the file and the rule that chose it, and makes nothing."""
    reason = "the environment variable METRICSHUB_KEYSTORE"
    check(run("path"), 0, f"{keystore} ({reason}) (not there yet)\n")
    done = run("path", env={"METRICSHUB_KEYSTORE": "", "APIKEY_LAUNCHER": f"{tmp_path}/bin/apikey"})
    assert done.returncode == 0
    (tmp_path / "lib" / "app").mkdir(parents=True)
    done = run("path", env={"METRICSHUB_KEYSTORE": "", "APIKEY_LAUNCHER": f"{tmp_path}/bin/apikey"})
    expected = f"{tmp_path}/lib/security/metricshub-keystore.p12"
    reason = "the installation apikey was started from"
    check(done, 0, f"{expected} ({reason}) (not there yet)\n")
    assert names(tmp_path) == ["lib"]


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Return a private password file."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    return file


def test_an_own_password(run: Run, password_file: Path, keystore: Path) -> None:
    """A keystore made with a password opens with it only, however it is given."""
    assert run("create", "x", "--password-file", password_file).returncode == 0
    check(run("--password-file", password_file, "list", "-q"), 0, "x\n")
    check(run("list", "-q", "--password-file", "-", stdin="hunter2\nmore"), 0, "x\n")
    by_variable = {"METRICSHUB_KEYSTORE_PASSWORD_FILE": str(password_file)}
    check(run("list", "-q", env=by_variable), 0, "x\n")
    check(run("list"), 1, stderr=f"{damaged(keystore)}\n")
    wrong = run("list", "--password-file", "-", stdin="wrong\n", env=by_variable)
    check(wrong, 1, stderr=f"{damaged(keystore)}\n")
    before = keystore.read_bytes()
    check(run("create", "y"), 1, stderr=f"{damaged(keystore)}\n")
    assert keystore.read_bytes() == before
    assert "hunter2" not in run("list", "--password-file", password_file).stdout


def test_a_readable_password_file_is_warned_of(run: Run, password_file: Path) -> None:
    """The password is used, with a warning on standard error."""
    password_file.chmod(0o644)
    done = run("list", "--password-file", password_file)
    check(
        done,
        0,
        "No API keys found.\n",
        f"Warning: {password_file} holds a password, and everybody may read it: chmod 600 it.\n",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The first line of {} is not a password."),
        (b"\n", "The first line of {} is not a password."),
        (b"\xff\n", "The password in {} is not UTF-8."),
        (None, "{} cannot be read: No such file or directory."),
    ],
)
def test_odd_password_files(
    run: Run, password_file: Path, keystore: Path, content: bytes | None, message: str
) -> None:
    """Without a password nothing is opened and nothing is made."""
    if content is None:
        password_file.unlink()
    else:
        password_file.write_bytes(content)
    done = run("create", "x", "--password-file", password_file)
    check(done, 1, stderr=f"Error: {message.format(password_file)}\n")
    assert not keystore.exists()


def test_no_password_on_standard_input(run: Run, keystore: Path) -> None:
    """An empty or closed standard input is an error, not a traceback."""
    done = run("create", "x", "--password-file", "-")
    check(done, 1, stderr="Error: The first line of standard input is not a password.\n")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND]
    done = run("create", "x", "--password-file", "-", command=closed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert not keystore.exists()


def test_an_empty_password_option_is_not_the_published_password(run: Run, keystore: Path) -> None:
    """`--password-file "$UNSET"` must not quietly make a keystore that everybody can open."""
    done = run("create", "x", "--password-file", "")
    assert done.returncode in (1, 2)
    assert not keystore.exists()


def test_a_non_ascii_password(run: Run, password_file: Path, keystore: Path) -> None:
    """A new keystore does not get a password that older Java refuses."""
    password_file.write_text("pässwörd\n")
    done = run("create", "x", "--password-file", password_file)
    check(
        done,
        1,
        stderr="Error: The password of a new keystore must be ASCII.\n"
        "Hint: Java before version 25 refuses other characters.\n",
    )
    assert not keystore.parent.exists()
