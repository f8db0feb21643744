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

ORDER = [
    "errors",
    "pkcs12.der",
    "pkcs12.kdf",
    "pkcs12.pbe",
    "pkcs12.mac",
    "pkcs12.attributes",
    "pkcs12.bag",
    "pkcs12.contents",
    "pkcs12.pfx",
    "pkcs12.store",
    "ownership",
    "windows",
    "filesystem",
    "lock",
    "keystore",
    "expiry",
    "metadata",
    "prefixed",
    "keys",
    "permission",
    "state",
    "policy",
    "policy_templates",
    "toml_lines",
    "toml_value",
    "yaml_items",
    "policy_file",
    "activity",
    "journal",
    "caller",
    "manifest",
    "leaks",
    "entries",
    "issuing",
    "rotation",
    "removal",
    "registry",
    "plan",
    "selection",
    "verification",
    "checks",
    "repair",
    "paths",
    "passwords",
    "gateway.credential",
    "gateway.window",
    "gateway.keyring",
    "gateway.decision",
    "gateway.limiter",
    "gateway.usage",
    "gateway.log",
    "gateway.redis_client",
    "gateway.redis_record",
    "gateway.redis_limiter",
    "gateway.service",
    "gateway.metrics",
    "gateway.listener",
    "gateway.application",
    "gateway.middleware",
    "gateway.reply",
    "gateway.protocol",
    "gateway.workers",
    "gateway.server",
    "interrupts",
    "output",
    "views",
    "tables",
    "reports",
    "delivery",
    "session",
    "completion",
    "options",
    "cli.shell",
    "cli.fields",
    "cli.keys",
    "cli.review",
    "cli.removal",
    "cli.rotation",
    "cli.verify",
    "cli.policy",
    "cli.apply",
    "cli.serve",
    "cli.main",
    "__main__",
]
"""Each module imports only what stands above it."""

CLI = {module for module in ORDER if module.startswith("cli.")} - {"cli.fields"}
"""The families of commands."""

ROOMS = {
    "click": {"completion", "options", "output", *CLI},
    "rich": {"output", "tables"},
    "yaml": {"yaml_items"},
    "platformdirs": {"paths"},
    "uvicorn": {"gateway.protocol", "gateway.reply", "gateway.server"},
    "redis": {"gateway.redis_client", "gateway.redis_record", "gateway.redis_limiter"},
}
"""Which modules know these packages."""

LATE = {
    "rich", "platformdirs", "yaml", "json", "csv", "sqlite3", "tomllib", "uuid", "unicodedata",
    "pwd", "resource", "shutil", "getpass",
}  # fmt: skip
"""What costs start-up, or is not everywhere, is imported where it is used."""

GATEWAY = {module for module in ORDER if module.startswith("gateway.")}

IMPORTED_LATE = {"tables", *GATEWAY}
"""Modules that are themselves imported where they are used."""

DEPENDENCIES = {"click", "cryptography", "platformdirs", "rich", "yaml", "uvicorn", "redis"}

LONGEST_FUNCTION = 40
LONGEST_FILE = 300

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = {name: path for name, path in FILES.items() if not name.endswith("__init__")}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


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


def ours(module: str) -> set[str]:
    """Return which of our modules *module* imports, anywhere in it."""
    found = set()
    for name in imports(module, ast.walk(parse(MODULES[module]))):
        inside = name.removeprefix(f"{PACKAGE}.")
        if inside != name:
            found |= {other for other in MODULES if f"{inside}.".startswith(f"{other}.")}
    return found


def public(tree: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Yield the public functions and classes of a module, and what is public in these."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has; its docstring does not count."""
    first, last = node.body[0], node.body[-1]
    docstring = ast.get_docstring(node) is not None
    described = (first.end_lineno or 0) - first.lineno + 1 if docstring else 0
    return (last.end_lineno or 0) - node.lineno + 1 - described


def test_every_module_has_its_place() -> None:
    """The order above is the whole house: no module is missing, none is gone."""
    assert set(ORDER) == set(MODULES)


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_upwards(module: str) -> None:
    """A module imports only what stands above it, late imports included."""
    above = set(ORDER[: ORDER.index(module)])
    assert ours(module) <= above


def test_the_graph_is_really_read() -> None:
    """Imports of all three spellings are found, so that the test above can fail."""
    assert {"pkcs12.bag", "keys", "keystore", "rotation"} <= ours("registry")
    assert {"delivery", "views", "session"} <= ours("cli.keys")
    assert ours("__main__") == {"cli.main"}
    assert ours("errors") == set()


def test_windows_is_known_in_one_place() -> None:
    """Only the file system's module imports Windows's own way, and only on Windows."""
    assert {module for module in MODULES if "windows" in ours(module)} == {"filesystem"}
    tree = parse(MODULES["filesystem"])
    guarded = {
        name
        for guard in tree.body
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "sys.platform == 'win32'"
        for name in imports("filesystem", ast.walk(guard))
    }
    at_top = set(imports("filesystem", iter(tree.body)))
    assert f"{PACKAGE}.windows.replace_file" in guarded - at_top


@pytest.mark.parametrize("package", ROOMS)
def test_packages_stay_in_their_rooms(package: str) -> None:
    """The terminal's libraries are known where the terminal is, and nowhere else."""
    users = {
        module
        for module, path in MODULES.items()
        if package in {name.split(".")[0] for name in imports(module, ast.walk(parse(path)))}
    }
    assert users == ROOMS[package]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - IMPORTED_LATE))
def test_costly_imports_are_late(module: str) -> None:
    """Nothing that costs start-up time is imported at the top of a module."""
    tree = parse(MODULES[module])
    at_top = {name.split(".")[0] for name in imports(module, iter(tree.body))}
    assert not at_top & LATE


@pytest.mark.parametrize("module", sorted(MODULES.keys() - GATEWAY))
def test_the_gateway_is_imported_late(module: str) -> None:
    """Whoever does not serve pays nothing for the gateway."""
    tree = parse(MODULES[module])
    at_top = set(imports(module, iter(tree.body)))
    assert not {name for name in at_top if name.startswith(f"{PACKAGE}.gateway")}


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
def test_nothing_grows_too_long(module: str) -> None:
    """A function has at most 40 lines besides its docstring, and a file 300."""
    functions = [
        node
        for node in ast.walk(parse(FILES[module]))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: code_lines(node) for node in functions}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}
    assert len(FILES[module].read_text("utf-8").splitlines()) <= LONGEST_FILE


def test_the_public_names_are_importable() -> None:
    """Each name in `__all__` is there, and others are an AttributeError."""
    for name in metricshub_apikey.__all__:
        assert getattr(metricshub_apikey, name) is not None
    with pytest.raises(AttributeError, match="'nothing'"):
        metricshub_apikey.nothing  # noqa: B018
