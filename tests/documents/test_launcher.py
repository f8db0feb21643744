"""The start scripts: first use, later starts, and everything that can go wrong between them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from places import PROJECT
from servers import program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the launcher for POSIX systems")

ROOT = PROJECT
FIRST_USE = "apikey: first use: making a virtual environment in"

# A command line of one's own in place of the tool's: what the launcher hands over is what counts.
STUB = """
import json, os, sys
def main() -> None:
    import click
    print(json.dumps([os.environ["APIKEY_LAUNCHER"], sys.argv[1:], click.__file__, sys.prefix]))
"""


Starts = list[subprocess.CompletedProcess[str]]


class Project:
    """A copy of the project, its tool replaced by a stub."""

    def __init__(self, root: Path) -> None:
        """Refer to the copy at *root*."""
        self.root = root
        self.launcher = root / "bin" / "apikey"
        self.venv = root / ".venv"
        self.stamp = self.venv / "apikey.stamp"
        self.home = root.parent / f"{root.name}-home"
        self.home.mkdir(exist_ok=True)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that starts the launcher."""
        return [str(self.launcher), *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment variables for a start."""
        # HOME leads to the environments of users, so pip is told of its usual cache.
        cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
        own = {"HOME": str(self.home), "PIP_CACHE_DIR": cache, "APIKEY_PYTHON": sys.executable}
        own["PIP_NO_COMPILE"] = "1"  # takes longer than all the rest
        own["PATH"] = without_uv(os.environ["PATH"])
        inherited = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
        return {**inherited, **own, **variables}

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Start the launcher and wait."""
        return run(self.command(*arguments), env=self.environment(**variables))

    def make(self) -> subprocess.CompletedProcess[str]:
        """Start where an environment has to be made, and let that fail at once."""
        environment = self.root / "bin" / "environment.py"
        text = environment.read_text()
        environment.write_text(text.replace('"-m", "venv"', '"-m", "no_venv"'))
        result = self.start("list")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1].startswith("apikey: venv failed: ")
        return result

    def change(self, file: Path, text: str) -> None:
        """Change a file, later than all else."""
        file.write_text(text)
        later = time.time() + 60
        os.utime(file, (later, later))

    def require(self, requirement: str) -> None:
        """Add a requirement."""
        pyproject = self.root / "pyproject.toml"
        text = pyproject.read_text()
        self.change(
            pyproject, text.replace("dependencies = [", f'dependencies = ["{requirement}",', 1)
        )

    def borrow(self, venv: Path) -> None:
        """Let a copy of *venv* be what `python -m venv` makes, which would take seconds."""
        parts = [str(path) for path in venv.iterdir() if not path.name.startswith("apikey.")]
        environment = self.root / "bin" / "environment.py"
        text = environment.read_text()
        made = 'python, "-I", "-m", "venv", *options, str(self.place)'
        assert made in text
        environment.write_text(text.replace(made, f"*{['cp', '-RP', *parts]}, str(self.place)"))

    def fake_environment(self) -> None:
        """Put a complete environment there that answers in place of Python."""
        self.venv.joinpath("bin").mkdir(parents=True)
        script(self.venv / "bin" / "python", 'printf "%s\\n" "$APIKEY_LAUNCHER" "$@"')
        self.venv.joinpath("apikey.lock").touch()
        shutil.copy(self.root / "bin" / "constraints.txt", self.venv)
        shutil.copy(self.root / "pyproject.toml", self.stamp)


def without_uv(path: str) -> str:
    """Return the folders of a PATH in which there is no uv."""
    return os.pathsep.join(
        one for one in path.split(os.pathsep) if not shutil.which("uv", path=one)
    )


def run(
    command: list[str], *, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end."""
    return subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def script(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def copy_project(root: Path) -> Project:
    """Copy what an installation holds."""
    root.mkdir(parents=True)
    shutil.copy2(ROOT / "pyproject.toml", root)
    for name in ("bin", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    root.joinpath("src", "metricshub_apikey", "__init__.py").write_text("")
    root.joinpath("src", "metricshub_apikey", "__main__.py").write_text(STUB)
    return Project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project that was never started."""
    return copy_project(tmp_path / "project")


def start_twice(project: Project) -> list[list[object]]:
    """Start a new project twice at the same time; return exit codes, outputs, messages."""
    starts = [
        subprocess.Popen(
            project.command("list", "two words"),
            env=project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o077,
        )
        for _ in range(2)
    ]
    outputs = [start.communicate() for start in starts]
    return [[start.returncode, *out] for start, out in zip(starts, outputs, strict=True)]


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Starts]:
    """Return a project and its first two starts: one for all workers, as it takes seconds."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "first-start"
    root, done = shared / "project", shared / "done.json"
    try:
        shared.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 300
        while not done.exists():
            assert time.monotonic() < deadline, "the other worker failed"
            time.sleep(0.1)
    else:
        new = shared / "new.json"
        new.write_text(json.dumps(start_twice(copy_project(root))))
        new.rename(done)
    starts = [subprocess.CompletedProcess([], *start) for start in json.loads(done.read_text())]
    return Project(root), starts


@pytest.fixture
def started(first_start: tuple[Project, Starts], tmp_path: Path) -> Project:
    """Return a project with its environment: a copy, which has to work where it is."""
    shutil.copytree(first_start[0].root, tmp_path / "started", symlinks=True)
    return Project(tmp_path / "started")


def parse(result: subprocess.CompletedProcess[str]) -> list[object]:
    """Return what the stub printed, and nothing but it."""
    assert result.returncode == 0, result.stderr
    parsed = json.loads(result.stdout)
    assert isinstance(parsed, list)
    return parsed


@pytest.mark.slow
def test_two_first_starts(
    first_start: tuple[Project, Starts],
) -> None:
    """Two simultaneous first starts both work; one environment is made, and stderr says so."""
    made, results = first_start
    for result in results:
        assert parse(result)[:2] == [str(made.launcher), ["list", "two words"]]
    messages = "".join(result.stderr for result in results)
    assert messages.count(FIRST_USE) == 1
    assert str(made.venv) in messages
    assert "apikey: Installing collected packages: " in messages, "it says what it is doing"


def test_umask_of_first_start(
    first_start: tuple[Project, Starts],
) -> None:
    """A strict umask does not lock other users out, and nobody else can write."""
    made, _ = first_start
    for path in (made.venv, made.stamp, *made.venv.glob("lib/python*/site-packages/click/*.py")):
        assert path.stat().st_mode & 0o044 == 0o044
        assert path.stat().st_mode & 0o022 == 0


def test_later_start(started: Project) -> None:
    """A later start says nothing of its own, and uses the environment of this very project."""
    result = started.start("--version")
    assert parse(result)[:2] == [str(started.launcher), ["--version"]]
    assert parse(result)[3] == str(started.venv)
    assert result.stderr == ""


def test_hostile_directory(started: Project, tmp_path: Path) -> None:
    """Neither the current directory nor PYTHONPATH can slip a module in."""
    for name in ("click", "json", "metricshub_apikey"):
        tmp_path.joinpath(f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    env = started.environment(PYTHONPATH=str(tmp_path))
    result = run(started.command(), cwd=tmp_path, env=env)
    assert str(started.venv) in str(parse(result)[2])


def test_the_real_tool(started: Project) -> None:
    """The tool itself starts with nothing but its own requirements."""
    if not ROOT.joinpath("src", "metricshub_apikey", "__main__.py").exists():
        pytest.skip("there is no command line yet")
    shutil.rmtree(started.root / "src")
    shutil.copytree(ROOT / "src", started.root / "src")
    result = started.start("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.parametrize("link", ["absolute", "relative", "chain", "folder"])
def test_symlink(project: Project, tmp_path: Path, link: str) -> None:
    """The project is found through links; the tool gets the path as typed."""
    project.fake_environment()
    typed = tmp_path / "metricshub" / "bin" / "apikey"
    typed.parent.parent.mkdir()
    if link == "folder":
        typed.parent.symlink_to(project.root / "bin")
    else:
        typed.parent.mkdir()
    if link == "absolute":
        typed.symlink_to(project.launcher)
    elif link == "relative":
        typed.symlink_to("../../project/bin/apikey")
    elif link == "chain":
        typed.with_name("next").symlink_to(project.launcher)
        typed.symlink_to("next")
    result = run([str(typed), "list"], env=project.environment())
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == str(typed)
    assert result.stdout.splitlines()[-1] == "list"


@pytest.mark.parametrize(
    ("typed", "folder", "seen"),
    [
        ("bin/apikey", ".", "bin/apikey"),
        ("./apikey", "bin", "./apikey"),
        ("../bin/apikey", "bin", "../bin/apikey"),
        ("sh apikey", "bin", "./apikey"),
    ],
)
def test_relative(project: Project, typed: str, folder: str, seen: str) -> None:
    """A relative path works, and so does `sh apikey`."""
    project.fake_environment()
    result = run(typed.split(), cwd=project.root / folder, env=project.environment())
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == seen


def test_strange_folder(tmp_path: Path) -> None:
    """Spaces, quotes and dots in the project's path are harmless."""
    project = copy_project(tmp_path / "it's a $HOME..x *")
    project.fake_environment()
    result = project.start("list", "")
    assert result.stderr == ""
    assert result.stdout.splitlines()[-2:] == ["list", ""]


def test_old_python(project: Project, tmp_path: Path) -> None:
    """Only a Python that is too old: one line names it, nothing is left behind."""
    tools = tmp_path / "tools"
    tools.mkdir()
    old = script(tools / "python3", "echo Python 3.9.2")
    script(tools / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    for name in ("sh", "readlink"):
        tools.joinpath(name).symlink_to(str(shutil.which(name)))
    result = project.start("list", APIKEY_PYTHON="", PATH=str(tools))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"apikey: Python 3.11 or newer is needed; found Python 3.9.2 ({old}).\n"
    )
    assert not project.venv.exists()
    assert not list(project.home.iterdir())


def test_no_python(project: Project) -> None:
    """An APIKEY_PYTHON that is not there is named."""
    result = project.start("list", APIKEY_PYTHON="/no/python")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "apikey: Python 3.11 or newer is needed; found none at /no/python.\n"


def test_python_without_venv(project: Project, tmp_path: Path) -> None:
    """A Debian without python3-venv gets told what to install."""
    body = (
        f'case "$*" in *ensurepip*) echo Python 3.11.2; exit 1 ;; esac\nexec {sys.executable} "$@"'
    )
    python = script(tmp_path / "python3", body)
    result = project.start("list", APIKEY_PYTHON=str(python))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"apikey: Python 3.11.2 ({python}) cannot make")
    assert "apt install python3-venv" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not project.venv.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(project: Project, sent: signal.Signals) -> None:
    """An interrupted first start leaves nothing that a later one trusts."""
    start = subprocess.Popen(
        project.command("list"),
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a group of its own, as a terminal's Ctrl-C reaches all of it
    )
    try:
        deadline = time.monotonic() + 30
        while not project.venv.joinpath("bin", "python").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(start.pid, sent)
        start.wait()
    assert start.returncode != 0
    assert not project.stamp.exists()
    assert project.start(APIKEY_PYTHON="/no/python").returncode == 1


def test_pip_fails(project: Project, first_start: tuple[Project, Starts]) -> None:
    """What an interrupted start left is removed; where pip cannot download, its error is shown."""
    project.borrow(first_start[0].venv)
    project.fake_environment()
    project.stamp.unlink()
    project.require("no-such-thing>=1")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    result = project.start("list", **settings)
    assert (result.returncode, result.stdout) == (1, "")
    first, *_, last = result.stderr.splitlines()
    assert first.startswith(FIRST_USE)
    assert last.startswith("apikey: pip could not install what is needed: No matching")
    assert [path.name for path in project.venv.iterdir()] == ["apikey.lock"]


def test_changed_project(started: Project) -> None:
    """A change of pyproject.toml that requires nothing new keeps the environment."""
    pyproject = started.root / "pyproject.toml"
    started.change(pyproject, f"{pyproject.read_text()}# changed\n")
    for _ in range(2):
        result = started.start()
        parse(result)
        assert result.stderr == ""
        assert started.stamp.read_text() == pyproject.read_text()
        assert started.stamp.stat().st_mtime_ns == pyproject.stat().st_mtime_ns


def test_changed_requirements(project: Project) -> None:
    """New requirements need a new environment."""
    project.fake_environment()
    project.require("no-such-thing>=1")
    result = project.make()
    assert result.stderr.startswith("apikey: what is needed has changed: making")
    assert not project.stamp.exists()


@pytest.mark.parametrize("later", [60, -60])
def test_changed_versions(project: Project, later: int) -> None:
    """Other exact versions need a new environment; an update's files may be older than a start."""
    constraints = project.root / "bin" / "constraints.txt"
    for file in (constraints, project.root / "pyproject.toml"):
        os.utime(file, (0, 0))
    project.fake_environment()
    os.utime(project.stamp, (0, 0))
    constraints.write_text(f"{constraints.read_text()}other==1\n")
    os.utime(constraints, (time.time() + later,) * 2)
    assert project.make().stderr.startswith("apikey: what is needed has changed: making")


def test_every_version_is_exact() -> None:
    """For all that pyproject.toml names there is one version, without an address."""
    names = set()
    for line in (ROOT / "bin" / "constraints.txt").read_text().splitlines():
        name, version = re.fullmatch(r"([a-z0-9-]+)==([\w.+]+)(?: ; .*)?", line).groups()  # type: ignore[union-attr]
        names.add(name)
        assert version
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = table["project"]
    groups = [*project["optional-dependencies"].values(), *table["dependency-groups"].values()]
    wanted = [project["dependencies"], *groups]
    needed = {re.match(r"[\w-]+", one)[0] for each in wanted for one in each}  # type: ignore[index]
    assert needed <= names


def test_uv(project: Project, tmp_path: Path) -> None:
    """Where uv is on PATH it installs; the environment is the same, and says who made it."""
    (tmp_path / "uv").symlink_to(program("uv"))
    path = f"{tmp_path}{os.pathsep}{project.environment()['PATH']}"
    made = project.start("list", PATH=path)
    assert parse(made)[3] == str(project.venv)
    assert "apikey: Installed " in made.stderr
    assert not list(project.venv.glob("lib/python*/site-packages/pip"))


@pytest.mark.slow
def test_uv_fails(project: Project, first_start: tuple[Project, Starts], tmp_path: Path) -> None:
    """A uv that cannot install, behind a proxy that only pip knows, is said; pip does it."""
    project.borrow(first_start[0].venv)
    script(tmp_path / "uv", "echo 'error: no way'; exit 2")
    path = f"{tmp_path}{os.pathsep}{project.environment()['PATH']}"
    made = project.start("list", PATH=path)
    assert parse(made)[3] == str(project.venv)
    assert "apikey: uv failed: error: no way; trying pip\n" in made.stderr


def test_base_python_gone(project: Project) -> None:
    """An environment whose Python was removed is made anew."""
    project.fake_environment()
    project.venv.joinpath("bin", "python").unlink()
    project.venv.joinpath("bin", "python").symlink_to("/no/python3.11")
    result = project.make()
    assert result.stderr.startswith("apikey: what is needed has changed: making")


def test_foreign_environment(project: Project) -> None:
    """A developer's own .venv is left alone."""
    project.venv.mkdir()
    project.venv.joinpath("pyvenv.cfg").write_text("mine")
    result = project.make()
    assert f"{project.home}/.cache/metricshub-apikey{project.root}/.venv" in result.stderr
    assert [path.name for path in project.venv.iterdir()] == ["pyvenv.cfg"]


@pytest.fixture
def powerless() -> list[str]:
    """Return what makes a command obey file permissions: root has to lay its powers down."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-all"]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root cannot lay its powers down here")
    return command


@pytest.fixture
def read_only(project: Project) -> Iterator[Project]:
    """Return a project without environment that cannot be written."""
    folders = [project.root, *(path for path in project.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield project
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.slow
def test_read_only_project(
    read_only: Project, powerless: list[str], first_start: tuple[Project, Starts]
) -> None:
    """In a project of someone else, a user gets an environment in the cache folder."""
    read_only.borrow(first_start[0].venv)
    command = [*powerless, *read_only.command("list")]
    own = read_only.home / ".cache" / f"metricshub-apikey{read_only.root}" / ".venv"

    first = run(command, env=read_only.environment())
    assert parse(first)[3] == str(own)
    assert first.stderr == f"{FIRST_USE} {own} (once)\n"
    assert own.stat().st_mode & 0o077 == 0

    second = run(command, env=read_only.environment())
    assert parse(second) == parse(first)
    assert second.stderr == ""
    assert list(own.joinpath("bytecode").rglob("__main__.*.pyc"))
    assert not list(read_only.root.rglob("__pycache__"))


def test_nowhere_to_write(read_only: Project, powerless: list[str]) -> None:
    """Where no environment can be made, both places are named."""
    env = read_only.environment(XDG_CACHE_HOME=str(read_only.root))
    result = run([*powerless, *read_only.command("list")], env=env)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("(Permission denied)") == 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
def test_environment_of_another_user(project: Project) -> None:
    """Root does not run what another user put into the cache folder."""
    project.fake_environment()
    cache = project.home / ".cache"
    own = cache / f"metricshub-apikey{project.root}" / ".venv"
    own.parent.mkdir(parents=True)
    project.venv.rename(own)
    os.chown(own, 65534, 65534)
    project.venv.touch()
    result = project.start("list", APIKEY_PYTHON="/no/python")
    assert (result.returncode, result.stdout) == (1, "")
    os.chown(own, 0, 0)
    assert project.start("list", APIKEY_PYTHON="/no/python").returncode == 0


@pytest.fixture
def checks(project: Project) -> Path:
    """Return the log of a developer environment whose tools only say what they would do."""
    project.fake_environment()
    venv = project.venv.rename(project.root / ".venv.test")
    log = project.root / "log"
    body = f'echo "$PWD" "$*" >>"{log}"\ncase "$*" in *"${{FAIL:-nothing}}"*) exit 3 ;; esac'
    script(venv / "bin" / "python", body)
    return log


@pytest.mark.parametrize(
    ("arguments", "fail", "steps"),
    [
        (
            [],
            "nothing",
            [
                "ruff check .",
                "ruff format --check .",
                "mypy",
                "mypy --platform win32 src tests/windows/inside",
                "pytest -n 3",
            ],
        ),
        ([], "format", ["ruff check .", "ruff format --check ."]),
        (["-k", "a b"], "nothing", ["pytest -n 3 -k a b"]),
        (["-x"], "pytest", ["pytest -n 3 -x"]),
    ],
)
def test_bin_test(
    project: Project, checks: Path, arguments: list[str], fail: str, steps: list[str]
) -> None:
    """`bin/test` runs the checks in the project's folder and stops at the first that fails."""
    command = [str(project.root / "bin" / "test"), *arguments]
    result = run(command, cwd=project.home, env=project.environment(FAIL=fail))
    assert result.returncode == (0 if fail == "nothing" else 3), result.stderr
    assert checks.read_text().splitlines() == [f"{project.root} -m {step}" for step in steps]
    assert result.stdout.splitlines() == [f"== {step}" for step in steps]
