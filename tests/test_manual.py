"""The manual page `docs/apikey.1`: it says what the command line has, and is sound roff."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from conftest import Run, missing
from metricshub_apikey import errors, paths, session
from metricshub_apikey.cli import apikey

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT / "docs" / "apikey.1"
SOURCE = PAGE.read_text(encoding="utf-8")
WIDTH = 80


def section(title: str) -> str:
    """Return the roff of one section."""
    (found,) = re.findall(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", SOURCE, re.MULTILINE | re.DOTALL)
    return str(found)


def documented_commands() -> dict[str, str]:
    """Return the roff of each command's subsection."""
    parts = re.split(r"^\.Ss (.*)\n", section("COMMANDS"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def items(roff: str) -> set[str]:
    """Return the options that head an item of a list: `.It Fl q , Fl -quiet`."""
    heads = re.findall(r"^\.It (Fl .*)$", roff, re.MULTILINE)
    return {f"-{name}" for head in heads for name in re.findall(r"\bFl (\S+)", head)}


def options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of *command* by each of their spellings, its help among them."""
    parameters = command.get_params(click.Context(command, parent=root_context()))
    return {
        spelled: parameter
        for parameter in parameters
        if isinstance(parameter, click.Option)
        for spelled in parameter.opts
    }


def root_context() -> click.Context:
    """Return the context from which a command inherits its `-h`."""
    return click.Context(apikey, **apikey.context_settings)


def rendered() -> str:
    """Return the page as plain text, 80 columns wide."""
    if shutil.which("mandoc") is None:
        missing("needs mandoc")
    command = ["mandoc", "-T", "utf8", "-O", f"width={WIDTH}", str(PAGE)]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=60)
    return re.sub(r".\x08", "", done.stdout)


def test_every_command_is_in_the_page_and_none_else() -> None:
    """COMMANDS has a subsection for each command, and SYNOPSIS a line."""
    assert documented_commands().keys() == apikey.commands.keys()
    assert set(re.findall(r"^\.Cm (\w+)$", section("SYNOPSIS"), re.MULTILINE)) == set(
        apikey.commands
    )


def test_the_common_options_are_in_the_page_and_none_else() -> None:
    """OPTIONS lists what may stand before a command's name."""
    assert items(section("OPTIONS")) == options(apikey).keys()


@pytest.mark.parametrize("name", list(apikey.commands))
def test_the_options_of_each_command_are_in_the_page_and_none_else(name: str) -> None:
    """A command's subsection lists the options that are its own."""
    own = options(apikey.commands[name]).keys() - options(apikey).keys()

    assert items(documented_commands()[name]) == own


def test_every_command_takes_the_common_options() -> None:
    """OPTIONS says that they may stand after the command's name, too."""
    common = options(apikey).keys() - {"--version"}
    without = [name for name, one in apikey.commands.items() if not common <= options(one).keys()]

    assert without == []


def test_every_value_an_option_takes_is_in_the_page() -> None:
    """An option's item shows its placeholder, or the words it can be."""
    for command in (apikey, *apikey.commands.values()):
        for spelled, option in options(command).items():
            words = (
                " | ".join(option.type.choices)
                if isinstance(option.type, click.Choice)
                else option.metavar
            )
            if not option.is_flag and spelled.startswith("--"):
                macro = "Cm" if isinstance(option.type, click.Choice) else "Ar"
                item = rf"^\.It .*Fl {re.escape(spelled[1:])} {macro} {re.escape(words or '')}$"
                assert re.search(item, SOURCE, re.MULTILINE), spelled


def test_every_option_that_the_page_mentions_exists() -> None:
    """No text or example uses an option that is gone."""
    existing = {
        spelled for command in (apikey, *apikey.commands.values()) for spelled in options(command)
    }
    mentioned = {f"-{name}" for name in re.findall(r"\bFl (-?[\w-]+)", SOURCE)}
    mentioned |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SOURCE))

    assert mentioned == existing


@pytest.mark.parametrize(
    ("command", "inside"),
    [
        (["create", "some"], None),
        (["list"], "keys"),
        (["path"], None),
        (["revoke", "some"], None),
        (["completion", "bash"], None),
    ],
    ids=lambda part: part[0] if part else "",
)
def test_every_key_of_the_json_documents_is_in_the_page(
    run: Run, command: list[str], inside: str | None
) -> None:
    """OUTPUT names the keys of a command's document, and of what is in it."""
    run("create", "some" if command[0] != "create" else "other", "-q")
    document = json.loads(run(*command, "-o", "json").stdout)
    (entry,) = document[inside] if inside else [{}]
    items_of_json = section("OUTPUT").split(".Ss JSON")[1]
    (item,) = re.findall(
        rf"^\.It Cm {command[0]}\n(.*?)(?=^\.It |^\.El)", items_of_json, re.MULTILINE | re.DOTALL
    )

    assert set(re.findall(r"^\.Li (\w+)", item, re.MULTILINE)) == document.keys() | entry.keys()


def test_every_error_code_is_in_the_page() -> None:
    """OUTPUT lists the codes that a failure can have, but that of the base class."""
    codes = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ApiKeyError)
    }
    listed = section("OUTPUT").split("which is one of\n")[1]

    assert (
        set(re.findall(r"^\.Li ([\w-]+)", listed, re.MULTILINE))
        | {
            "error",
            errors.EntryUnreadableError.code,
        }
        == codes
    )


def test_the_environment_variables_are_in_the_page() -> None:
    """ENVIRONMENT lists what users may set, and nothing internal."""
    assert set(re.findall(r"^\.It Ev (\w+)$", section("ENVIRONMENT"), re.MULTILINE)) == {
        paths.ENVIRONMENT_VARIABLE,
        session.PASSWORD_FILE_VARIABLE,
        "NO_COLOR",
    }
    assert session.LAUNCHER_VARIABLE not in SOURCE


def test_the_page_is_sound() -> None:
    """Mandoc's linter finds nothing at the level of a warning or above."""
    if shutil.which("mandoc") is None:
        missing("needs mandoc")
    command = ["mandoc", "-T", "lint", "-W", "warning", str(PAGE)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_page_fits_a_terminal() -> None:
    """At 80 columns no line is longer, and every section is there."""
    lines = rendered().splitlines()

    assert [line for line in lines if len(line) > WIDTH] == []
    assert [line for line in lines if re.fullmatch(r"[A-Z][A-Z ]+", line)] == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EXPIRY",
        "OUTPUT",
        "ENVIRONMENT",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
        "SECURITY",
    ]


def test_no_word_of_the_page_was_taken_for_a_macro() -> None:
    """Words such as `No` are macros of mdoc: what is quoted must come out as it was typed."""
    text = re.sub(r"\s+", " ", rendered())

    for quoted in re.findall(r"^\.(?:It )?Ql (.*?)(?: [.,:])?$", SOURCE, re.MULTILINE):
        typed = quoted.replace("\\&", "")
        assert f"\N{LEFT SINGLE QUOTATION MARK}{typed}\N{RIGHT SINGLE QUOTATION MARK}" in text


def test_the_wheel_ships_the_page() -> None:
    """After `pip install`, `man` finds the page in the environment's share/man."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert wheel["shared-data"] == {"docs/apikey.1": "share/man/man1/apikey.1"}
