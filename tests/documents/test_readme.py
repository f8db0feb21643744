"""The examples in README.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_manual import COMMANDS, json_items, literals

from metricshub_apikey.activity.caller import caller
from metricshub_apikey.keys.metadata import ARC
from places import PROJECT
from servers import program, serving
from test_architecture import ROOMS

README = (PROJECT / "README.md").read_text(encoding="utf-8")

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
PREFIXED = re.compile(r"\b(?:metoro_secret|acme)_[0-9A-Za-z]{49}\b")
MASK = re.compile(r"(?:\*{20}|…)[0-9A-Za-z]{4}")
TIME = re.compile(r"\b\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d)?\b")
ZONE = re.compile(r"read in [^ ]+, which (?:Java finds in /etc/\w+|--timezone names)")
LAYOUT = re.compile(r"[ ─]{2,}")


def blocks(language: str, text: str = README) -> list[str]:
    """Return the fenced blocks in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def examples(text: str = README) -> list[tuple[str, str]]:
    """Return each command line of the console blocks, and what *text* says it prints."""
    found = []
    for block in blocks("console", text):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            found.append((command, printed.strip()))
    return found


def normalised(printed: str, typed: str = "") -> str:
    """
    Return *printed* with what differs from run to run replaced: keys, times, zones, widths.

    A time stays if it is in *typed*, the commands.
    """
    printed = ZONE.sub("read in ZONE", printed)
    for pattern, name in ((UUID, "KEY"), (PREFIXED, "KEY"), (MASK, "MASK"), (LAYOUT, " ")):
        printed = pattern.sub(name, printed)
    return TIME.sub(lambda found: found[0] if found[0] in typed else "TIME", printed).strip()


def run_example(command: str, environment: dict[str, str], folder: Path, home: str) -> str:
    """
    Return what *command* prints in *folder*, on both streams.

    Args:
        command: One line for the shell.
        environment: With `apikey` on its path.
        folder: Where to run it.
        home: What the document has for the keystore's folder.
    """
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    keystore = Path(environment["METRICSHUB_KEYSTORE"])
    shown = done.stdout.replace(str(keystore.parent), home)
    return shown.replace(caller(os.environ), "root@server")


def with_apikey(environment: dict[str, str], folder: Path, *options: str) -> dict[str, str]:
    """Return an environment in which `apikey` is the command under test, with these *options*."""
    shim = folder / "shims" / "apikey"
    shim.parent.mkdir()
    command = shlex.join([sys.executable, "-m", "metricshub_apikey", *options])
    shim.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    shim.chmod(0o755)
    return {
        **environment,
        "APIKEY_LAUNCHER": "apikey",
        "PATH": f"{shim.parent}:{environment['PATH']}",
    }


def test_every_console_example_prints_what_the_readme_says(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Run in order, the examples print what stands under them, but for keys and times."""
    environment = with_apikey(environment, tmp_path)
    (keys,) = blocks("yaml")
    (tmp_path / "keys.yaml").write_text(keys, encoding="utf-8")
    typed = "\n".join(command for command, _ in examples())

    for command, expected in examples():
        if command.startswith("./bin/"):
            continue
        shown = run_example(command, environment, tmp_path, "/home/you")
        assert normalised(shown, typed) == normalised(expected, typed), command


def test_normalising_keeps_what_matters() -> None:
    """A typed time, a length of time and a word that differs are still compared."""
    key = "metoro_secret_T97U5HdcPa7BgfSy0S9GVqbaT7IZEMGrLfIyQNxayX52QMj9p"
    line = f"{key}  (Expires on 2027-12-31T23:59:59, made 2026-11-22, in 12 days)"
    kept = "(Expires on 2027-12-31T23:59:59, made TIME, in 12 days)"

    assert normalised(line, "--expires-on 2027-12-31T23:59:59") == f"KEY {kept}"
    assert normalised(key[:-1]) == key[:-1]


def test_the_first_command_starts_the_tool_from_the_clone(environment: dict[str, str]) -> None:
    """The README opens with a command that works with nothing set up before."""
    command, expected = examples()[0]
    assert command.startswith("./bin/apikey create ")

    done = subprocess.run(
        ["sh", "-c", command],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert normalised(done.stdout) == normalised(expected)


def test_the_gateway_answers_what_the_readme_says(
    environment: dict[str, str], keystore: Path, tmp_path: Path
) -> None:
    """Asked with curl as the README has it, a gateway answers as it stands there."""
    front, command = (block for block in blocks("sh") if block.startswith("apikey serve"))
    assert front.split()[:4] == ["apikey", "serve", "--upstream", "https://127.0.0.1:31888"]
    (asked,) = (block for block in blocks("sh") if block.startswith("curl"))
    (answers,) = blocks("http")
    program("curl")
    environment = with_apikey(environment, tmp_path)
    for line in (
        "policy init --template strict",
        "create grafana --role read-only -q > grafana.key",
    ):
        run_example(f"apikey {line}", environment, tmp_path, "")

    with serving(keystore, environment=environment) as gateway:
        assert command == "apikey serve --bind 127.0.0.1:8484\n"
        script = asked.replace(":8484/", f":{gateway.port}/")
        shown = run_example(script.replace("curl -i", "curl -si"), environment, tmp_path, "")

    assert re.sub(r"\s+", " ", shown).strip() == re.sub(r"\s+", " ", answers).strip()


def test_the_second_command_is_what_ci_runs() -> None:
    """The README's test command is the very one that CI calls."""
    command = blocks("sh")[0].strip()

    assert command == "./bin/test"
    assert command in (PROJECT / ".ci" / "run").read_text().splitlines()


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The library's example is a whole program."""
    (program,) = blocks("python")

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    shown, verdict = done.stdout.splitlines()
    assert re.fullmatch(r"ApiKey\('from-python', \*{20}\w{4}, expires_on=.*\) 1 True", shown)
    assert verdict == "accepted"


def test_the_table_of_documents_is_that_of_the_manual_page() -> None:
    """The JSON documents have the same keys in README.md as in the manual page."""
    table = README.split("| command | document |")[1].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| (`[^|]*`|a key in it) \| (.*) \|$", table, re.MULTILINE))
    rows["`the fields of a key`"] = rows.pop("a key in it")
    shown = {name.strip("`"): row for name, row in rows.items()}
    page = {name.replace("Fl -", "--"): item for name, item in json_items().items()}

    assert {name.partition(" --")[0] for name in shown} == {
        "the fields of a key",
        *(COMMANDS.keys() - {"serve", "console", "help"}),
    }
    assert shown.keys() == page.keys()
    for name in shown.keys() - {"policy show"}:
        row = re.sub(r"\(false .*?\)", "", shown[name])
        assert set(re.findall(r"`(\w+)`", row)) == literals(page[name]), name


def test_the_arc_of_the_metadata_is_in_the_readme() -> None:
    """Whoever reads a keystore with another tool finds what the attributes are."""
    assert f"`{ARC}`" in README


@pytest.mark.parametrize("document", ["README.md", "docs/first-year.md", "CONTRIBUTING.md"])
def test_links_inside_the_project_lead_somewhere(document: str) -> None:
    """Every relative link names a file, and every `#` a heading."""
    text = (PROJECT / document).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (PROJECT / document).parent.joinpath(path).exists(), target
        assert path or anchor in headings, target


def test_the_map_is_the_house() -> None:
    """CONTRIBUTING.md shows every room, and no other."""
    tree = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    source = tree.partition("src/metricshub_apikey/\n")[2].partition("\ntests/")[0]
    found = re.findall(r"^  (\w+)(?:\.py|/) ", source, re.MULTILINE)

    assert sorted(found) == sorted(ROOMS)
