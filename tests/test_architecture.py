"""The house: who may import whom, and how long things may get."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import metricshub_apikey

SOURCE = Path(metricshub_apikey.__file__).parent
PACKAGE = SOURCE.name

ROOMS = {
    "errors": set(),
    "secret": set(),
    "files": {"errors"},
    "formats": {"errors"},
    "pkcs12": {"errors", "secret"},
    "keys": {"errors", "secret", "pkcs12", "formats"},
    "keystore": {"errors", "files", "pkcs12"},
    "policy": {"errors", "secret", "keys", "files", "formats"},
    "activity": {"errors", "keys", "files"},
    "registry": {
        "errors", "secret", "keystore", "policy", "activity", "keys", "pkcs12", "formats", "files",
    },
    "review": {
        "errors", "secret", "files", "formats", "pkcs12", "keys", "keystore", "policy", "activity",
        "registry",
    },
    "http": {"errors", "files"},
    "gateway": {"errors", "policy", "activity", "keystore", "keys", "formats", "http"},
    "console": {
        "errors", "secret", "files", "formats", "pkcs12", "keys", "keystore", "policy",
        "activity", "registry", "review", "http",
    },
    "cli": {
        "errors", "files", "formats", "pkcs12", "keys", "keystore", "policy", "activity",
        "registry", "review", "http", "gateway", "console",
    },
    "__main__": {"cli"},
    "__init__": {"errors", "secret", "keys", "policy", "registry", "gateway"},
}  # fmt: skip
"""Which rooms each room may import; a room answers one question, see CONTRIBUTING.md."""

PACKAGES = {
    "click": {"cli"},
    "rich": {"cli"},
    "yaml": {"formats"},
    "platformdirs": {"keystore"},
    "uvicorn": {"http"},
    "redis": {"gateway.redis"},
    "bcrypt": {"console"},
}
"""Which rooms know these packages."""

LATE = {
    "rich", "platformdirs", "yaml", "json", "csv", "sqlite3", "tomllib", "uuid", "unicodedata",
    "pwd", "resource", "shutil", "getpass", "zoneinfo",
}  # fmt: skip
"""What costs start-up, or is not everywhere, is imported where it is used."""

SERVING = ("gateway", "console", "http")
IMPORTED_LATE = ("cli.table", *SERVING)
"""Rooms and modules that are themselves imported where they are used."""

DEPENDENCIES = {
    "click",
    "cryptography",
    "platformdirs",
    "rich",
    "yaml",
    "uvicorn",
    "bcrypt",
    "aiohttp",
    "yarl",
    "redis",
}

LONGEST_FUNCTION = 40

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = {name: path for name, path in FILES.items() if not name.endswith("__init__")}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


SCOPES = ast.Module | ast.ClassDef


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the absolute name of everything that *nodes*, a part of *module*, import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = f"{PACKAGE}.{module}".split(".")[: -node.level] if node.level else []
            origin = ".".join([*folder, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """Return the room of one of our modules, given without the name of the package."""
    return module.partition(".")[0] or "__init__"


def ours(module: str) -> set[str]:
    """Return which of our rooms *module* imports, anywhere in it, but its own."""
    names = imports(module, ast.walk(parse(FILES[module])))
    inside = {name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}.")}
    return {room_of(name) for name in inside} - {room_of(module), "__version__"}


def public(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield the public functions and classes of a module, and what is public in these."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines the body of a function has; its docstring does not count."""
    first, last = node.body[0], node.body[-1]
    docstring = ast.get_docstring(node) is not None
    return (last.end_lineno or 0) - ((first.end_lineno or 0) if docstring else first.lineno - 1)


def test_every_room_is_in_the_table() -> None:
    """The table is the whole house: no room is missing, none is gone."""
    assert {room_of(module) for module in FILES} == set(ROOMS)


@pytest.mark.parametrize("module", FILES)
def test_rooms_import_what_the_table_says(module: str) -> None:
    """A module imports only the rooms in its room's row, late imports included."""
    assert ours(module) <= ROOMS[room_of(module)]


def test_the_graph_is_really_read() -> None:
    """Imports of all spellings are found, so that the test above can fail."""
    assert {"keystore", "keys", "policy", "activity", "pkcs12"} <= ours("registry.api_keys")
    assert {"gateway", "http"} <= ours("cli.commands.serve")
    assert ours("__main__") == {"cli"}
    assert ours("errors") == set()


def test_windows_is_known_in_one_place() -> None:
    """Only the room of files makes Windows's calls; a start elsewhere does not import them."""
    wanted = f"{PACKAGE}.files.windows"
    users = set()
    for module, path in MODULES.items():
        if any(name.startswith(wanted) for name in imports(module, ast.walk(parse(path)))):
            users.add(module)
            at_top = imports(module, iter(parse(path).body))
            assert not any(name.startswith(wanted) for name in at_top)
    readers = {"activity.caller", "review.checks"}
    assert {module for module in users if not module.startswith("files.")} == readers


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_stay_in_their_rooms(package: str) -> None:
    """The terminal's libraries are known where the terminal is, and nowhere else."""
    users = {
        module
        for module, path in MODULES.items()
        if package in {name.split(".")[0] for name in imports(module, ast.walk(parse(path)))}
    }
    assert users
    for module in users:
        assert any(f"{module}.".startswith(f"{room}.") for room in PACKAGES[package])


def at_top(module: str) -> set[str]:
    """Return what *module* imports when it is imported itself."""
    return set(imports(module, iter(parse(MODULES[module]).body)))


@pytest.mark.parametrize("module", [one for one in MODULES if not one.startswith(IMPORTED_LATE)])
def test_costly_imports_are_late(module: str) -> None:
    """Nothing that costs start-up time is imported at the top of a module."""
    assert not {name.split(".")[0] for name in at_top(module)} & LATE


@pytest.mark.parametrize("module", [one for one in MODULES if not one.startswith(SERVING)])
def test_what_serves_is_imported_late(module: str) -> None:
    """A command that does not serve pays nothing for the gateway."""
    rooms = tuple(f"{PACKAGE}.{room}" for room in SERVING)
    assert not {name for name in at_top(module) if name.startswith(rooms)}


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_are_declared(module: str) -> None:
    """What is imported is in the standard library, ours, or among the dependencies."""
    known = {*sys.stdlib_module_names, PACKAGE, *DEPENDENCIES}
    tree = parse(MODULES[module])
    assert {name.split(".")[0] for name in imports(module, ast.walk(tree))} <= known


@pytest.mark.parametrize("module", FILES)
def test_everything_public_is_described(module: str) -> None:
    """Every module and every public class, function and method has a docstring."""
    assert ast.get_docstring(parse(FILES[module]))
    assert [one.name for one in public(parse(FILES[module])) if not ast.get_docstring(one)] == []


@pytest.mark.parametrize("module", FILES)
def test_functions_fit_on_a_screen(module: str) -> None:
    """A function's body has at most 40 lines besides its docstring."""
    functions = [
        node
        for node in ast.walk(parse(FILES[module]))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: code_lines(node) for node in functions}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", FILES)
def test_constants_are_assigned_once(module: str) -> None:
    """No constant of a module or a class has a second value, which would hide the first."""
    for scope in [one for one in ast.walk(parse(FILES[module])) if isinstance(one, SCOPES)]:
        assigned = [node for node in scope.body if isinstance(node, ast.Assign | ast.AnnAssign)]
        targets = [t for one in assigned for t in getattr(one, "targets", None) or [one.target]]  # type: ignore[union-attr]
        names = [one.id for one in targets if isinstance(one, ast.Name)]
        assert len(names) == len(set(names)), [one for one in names if names.count(one) > 1]
