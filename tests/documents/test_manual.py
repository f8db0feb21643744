"""The manual page `docs/apikey.1`: it says what the command line has, and is sound roff."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import get_args

import click
import pytest

from conftest import Run, missing
from metricshub_apikey import ApiKeys, errors
from metricshub_apikey.activity import database
from metricshub_apikey.cli import session
from metricshub_apikey.cli.main import apikey
from metricshub_apikey.keys import fingerprint
from metricshub_apikey.keys.document import KEY_FIELDS
from metricshub_apikey.keystore import location as paths
from metricshub_apikey.policy import acceptance, state
from metricshub_apikey.policy import file as policy_file
from metricshub_apikey.policy import templates as policy_templates
from metricshub_apikey.registry import manifest, verification
from places import PROJECT

PAGE = PROJECT / "docs" / "apikey.1"
SOURCE = PAGE.read_text(encoding="utf-8")
WIDTH = 80


def leaves(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Yield every command by what is typed for it: `list`, `policy show`."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=context)
            yield from ((f"{name} {last}", leaf) for last, leaf in leaves(command, inner))
        else:
            yield name, command


def root_context() -> click.Context:
    """Return the context from which a command inherits its `-h`."""
    return click.Context(apikey, **apikey.context_settings)


COMMANDS = dict(leaves(apikey, root_context()))


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


def choices(option: click.Option) -> list[str]:
    """Return the words that an option can be; none where it takes any."""
    return list(option.type.choices) if isinstance(option.type, click.Choice) else []


def json_items() -> dict[str, str]:
    """Return the roff of what OUTPUT says of each JSON document, by the head of its item."""
    listed = section("OUTPUT").split(".Ss JSON")[1].split(".El")[0]
    parts = re.split(r"^\.It (?:Cm|Em) (.*)\n", listed, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def literals(roff: str) -> set[str]:
    """Return the words in literal type, but not those of them that are quoted values."""
    return set(re.findall(r"^\.(?:It )?Li (\w[\w-]*)", roff, re.MULTILINE)) | set(
        re.findall(r"^\.It Li \w+ , (\w+)", roff, re.MULTILINE)
    )


def quoted(roff: str) -> set[str]:
    """Return the words in quotes."""
    return set(re.findall(r"^\.(?:Pf \( )?Ql ([\w-]+)", roff, re.MULTILINE))


def names_in(document: object) -> set[str]:
    """Return the keys of a document and of all that is in it, but not what users have named."""
    if isinstance(document, list):
        return {name for one in document for name in names_in(one)}
    if not isinstance(document, dict):
        return set()
    found = set(document)
    for name, held in document.items():
        users_names = name in ("labels", "roles") and isinstance(held, dict)
        found |= names_in(list(held.values()) if users_names else held)
    return found


def rendered() -> str:
    """Return the page as plain text, 80 columns wide."""
    if shutil.which("mandoc") is None:
        missing("needs mandoc")
    command = ["mandoc", "-T", "utf8", "-O", f"width={WIDTH}", str(PAGE)]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=60)
    return re.sub(r".\x08", "", done.stdout)


def test_every_command_is_in_the_page_and_none_else() -> None:
    """COMMANDS has a subsection for each command, and SYNOPSIS a line."""
    assert documented_commands().keys() == COMMANDS.keys()
    assert set(re.findall(r"^\.Cm (\w+(?: \w+)?)$", section("SYNOPSIS"), re.MULTILINE)) == set(
        COMMANDS
    )
    assert {"policy init", "policy show", "policy check", "list"} < set(COMMANDS)


def test_the_common_options_are_in_the_page_and_none_else() -> None:
    """OPTIONS lists what may stand before a command's name."""
    assert items(section("OPTIONS")) == options(apikey).keys()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_options_of_each_command_are_in_the_page_and_none_else(name: str) -> None:
    """A command's subsection lists the options that are its own."""
    own = options(COMMANDS[name]).keys() - options(apikey).keys()

    assert items(documented_commands()[name]) == own


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_synopsis_has_every_option_of_a_command(name: str) -> None:
    """SYNOPSIS shows each option of a command, and its short form where it has one."""
    forms = re.split(r"^\.Nm\n", section("SYNOPSIS"), flags=re.MULTILINE)
    shown = {
        f"-{option}"
        for form in forms
        if re.search(rf"^\.Cm {name}$", form, re.MULTILINE)
        for option in re.findall(r"\bFl (\S+)", form)
    }
    own = {one.name: min(one.opts, key=len) for one in options(COMMANDS[name]).values()}
    common = {one.name for one in options(apikey).values()}

    assert shown == {spelled for option, spelled in own.items() if option not in common}


def test_every_command_takes_the_common_options() -> None:
    """OPTIONS says that they may stand after the command's name, too."""
    common = options(apikey).keys() - {"--version", "-V"}
    without = [name for name, one in COMMANDS.items() if not common <= options(one).keys()]

    assert without == []


def test_every_value_an_option_takes_is_in_the_page() -> None:
    """An option's item shows its placeholder, or the words it can be."""
    parts: dict[str, tuple[click.Command, str]] = {"OPTIONS": (apikey, section("OPTIONS"))}
    parts |= {name: (COMMANDS[name], roff) for name, roff in documented_commands().items()}
    for name, (command, roff) in parts.items():
        for spelled, option in options(command).items():
            if option.is_flag or not spelled.startswith("--"):
                continue
            if name != "OPTIONS" and spelled in options(apikey):
                continue
            choice = choices(option)
            words = " | ".join(choice) if choice else option.metavar
            shown = re.escape((words or "").replace('"', r"\(dq"))
            item = rf"^\.It .*Fl {re.escape(spelled[1:])} {'Cm' if choice else 'Ar'} {shown}$"
            assert re.search(item, roff, re.MULTILINE), (name, spelled)


def test_the_forms_that_only_some_commands_print_are_in_the_page() -> None:
    """OUTPUT names the commands that print CSV, and those with forms for monitoring."""
    forms = {name: choices(options(one)["--output"]) for name, one in COMMANDS.items()}
    others = section("OUTPUT").split(".Ss CSV")[1].split(".Ss Monitoring")
    csv, monitoring = (
        set(re.findall(r"^\.Cm (\w+)\n(?=and|print|has)", text, re.MULTILINE)) for text in others
    )

    assert csv == {name for name, known in forms.items() if "csv" in known}
    assert monitoring == {name for name, known in forms.items() if "nagios" in known}
    assert monitoring == {name for name, known in forms.items() if "prometheus" in known}
    assert all({"text", "json"} <= set(known) for known in forms.values())


def test_every_option_that_the_page_mentions_exists() -> None:
    """No text or example uses an option that is gone."""
    existing = {spelled for command in (apikey, *COMMANDS.values()) for spelled in options(command)}
    mentioned = {f"-{name}" for name in re.findall(r"\bFl (-?[\w-]+)", SOURCE)}
    mentioned |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SOURCE))

    assert mentioned == existing


DOCUMENTS = {
    "create": ["create", "other", "--role", "read-only"],
    "list": ["list"],
    "show": ["show", "some"],
    "edit": ["edit", "some", "--label", "env=test"],
    "rotate": ["rotate", "some"],
    "rotate Fl -finish": ["rotate", "old", "--finish"],
    "revoke": ["revoke", "some"],
    "suspend": ["suspend", "some"],
    "resume": ["resume", "some"],
    "prune": ["prune", "--dry-run"],
    "verify": ["verify"],
    "log": ["log"],
    "check": ["check"],
    "scan": ["scan", "leak.txt"],
    "apply": ["apply", "keys.yaml", "--dry-run"],
    "policy init": ["--policy", "new.toml", "policy", "init"],
    "policy show": ["--policy", "strict.toml", "policy", "show"],
    "policy check": ["--policy", "strict.toml", "policy", "check"],
    "path": ["path"],
    "completion": ["completion", "bash"],
}
"""For each document an example in which no list is empty."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_of_the_json_documents_is_in_the_page(
    run: Run, registry: ApiKeys, tmp_path: Path, name: str
) -> None:
    """OUTPUT names the keys of a command's document, and of what is in it."""
    key = registry.create("some").secret.reveal()
    registry.create("old")
    registry.rotate("old")
    if name == "log":
        run("create", "other")
    (tmp_path / "strict.toml").write_text(policy_templates.template("strict"))
    (tmp_path / "leak.txt").write_text(f"{key}\n")
    (tmp_path / "keys.yaml").write_text("- alias: new\n  roles: [read-only]\n")

    done = run(*DOCUMENTS[name], "-o", "json", stdin=key, cwd=tmp_path)
    document = json.loads(done.stdout)
    item = json_items()[name]
    of_a_key = set(KEY_FIELDS) if "the fields of a key" in item else set()

    assert literals(item) | of_a_key == names_in(document)


def test_every_command_has_its_json_document_in_the_page() -> None:
    """OUTPUT has an item for each command but servers and help, and for what a key is in all."""
    assert literals(json_items()["the fields of a key"]) == set(KEY_FIELDS)
    assert json_items().keys() == {"the fields of a key", *DOCUMENTS}
    assert {name.partition(" Fl ")[0] for name in DOCUMENTS} == COMMANDS.keys() - {
        "serve",
        "console",
        "help",
    }


def test_the_reasons_of_verify_are_in_the_page() -> None:
    """OUTPUT lists the stable names of why a key is refused."""
    source = Path(verification.__file__).read_text(encoding="utf-8")
    reasons = set(re.findall(r'Verdict\(\s*"([\w-]+)"', source))

    reasons |= {*get_args(acceptance.Refusal), *verification.ENDED_BY.values()}
    assert quoted(json_items()["verify"]) == reasons


def test_the_actions_of_the_log_are_in_the_page() -> None:
    """The command `log` is described with every word that it prints for an action."""
    (listed,) = re.findall(r"oldest first: ([^.]*)\.$", documented_commands()["log"], re.MULTILINE)

    assert set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", listed))) == set(database.ACTIONS)


def test_every_metric_is_in_the_page(run: Run, keystore: Path) -> None:
    """OUTPUT names all metrics that `check -o prometheus` can print."""
    key = run("create", "ci", "--expires-in", "90d", "-q").stdout.strip()
    log = database.ActivityLog(database.path_beside(str(keystore)))
    log.record_uses({fingerprint.fingerprint(key): ("ci", datetime.now(UTC))})

    printed = run("check", "-o", "prometheus").stdout
    monitoring = section("OUTPUT").split(".Ss Monitoring")[1]

    assert literals(monitoring) == set(re.findall(r"^# TYPE (\w+)", printed, re.MULTILINE))


def test_every_rule_of_the_policy_is_in_the_page() -> None:
    """POLICY lists all that a policy file can say."""
    tables = {"keys", "server", "roles", "gateway", "mcp", "rate_limit"}
    tops = (policy_file.TOP, policy_file.KEYS, policy_file.SERVER)
    rest = (policy_file.ROLE, policy_file.RATE_LIMIT, policy_file.GATEWAY, policy_file.MCP)
    known = {*chain(*tops, *rest)}
    heads = "\n".join(re.findall(r"^\.It Li .*$", section("POLICY"), re.MULTILINE))

    assert literals(heads) == known - tables
    assert set(re.findall(r"^\.Li \[(\w+)", section("POLICY"), re.MULTILINE)) == tables


def test_every_field_of_a_list_of_keys_is_in_the_page() -> None:
    """LIST OF KEYS lists all that an item can say."""
    heads = re.findall(r"^\.It (Li .*)$", section("LIST OF KEYS"), re.MULTILINE)

    assert {name for head in heads for name in re.findall(r"\w+", head[3:])} == set(
        manifest.READERS
    )


def test_every_error_code_is_in_the_page() -> None:
    """OUTPUT lists the codes that a failure can have, but that of the base class."""
    codes = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ApiKeyError)
    }
    listed = section("OUTPUT").split("which is one of\n")[1].split(".Ss ")[0]

    assert literals(listed) | {errors.ApiKeyError.code} == codes


def test_the_environment_variables_are_in_the_page() -> None:
    """ENVIRONMENT lists what users may set, and nothing internal."""
    assert set(re.findall(r"^\.It Ev (\w+)$", section("ENVIRONMENT"), re.MULTILINE)) == {
        paths.ENVIRONMENT_VARIABLE,
        session.PASSWORD_FILE_VARIABLE,
        "METRICSHUB_APIKEY_POLICY",
        state.ENVIRONMENT_VARIABLE,
        "NO_COLOR",
        "TZ",
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
        "DELIVERY",
        "EXPIRY",
        "POLICY",
        "GATEWAY",
        "LIST OF KEYS",
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

    for quoted in re.findall(r"^\.(?:It )?Ql (.*?)(?: [.,:;)])*$", SOURCE, re.MULTILINE):
        typed = quoted.replace("\\&", "").replace(r"\(dq", '"').replace(r"\e", "\\")
        assert f"\N{LEFT SINGLE QUOTATION MARK}{typed}\N{RIGHT SINGLE QUOTATION MARK}" in text


def test_the_wheel_ships_the_page() -> None:
    """After `pip install`, `man` finds the page in the environment's share/man."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert wheel["shared-data"] == {"docs/apikey.1": "share/man/man1/apikey.1"}
