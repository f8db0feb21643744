"""Where the keystore is: each rule, and which one comes first."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.keystore.location import FILE_NAME, Location, find_keystore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that looks like nothing yet, with a launcher in its `bin`."""
    (tmp_path / "hub" / "bin").mkdir(parents=True)
    (tmp_path / "hub" / "bin" / "apikey").touch()
    return tmp_path / "hub"


def find(
    folder: Path,
    named: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    platform: str = "linux",
    default: Path | None = None,
) -> Location:
    """Look for the keystore as the launcher in *folder* does."""
    return find_keystore(
        named,
        environ=environ or {},
        launcher=str(folder / "bin" / "apikey"),
        platform=platform,
        default_installation=str(default or folder / "not installed"),
    )


def make(folder: Path, *names: str) -> None:
    """Make the directories *names* in *folder*."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)


def check(location: Location, rule: str, path: Path) -> None:
    """Compare what was found, and that there is a reason for people, too."""
    assert (location.rule, location.path) == (rule, str(path))
    assert location.reason


def test_the_option_comes_first(folder: Path) -> None:
    """`--keystore` wins over everything, and is taken as it is."""
    make(folder, "lib/app")
    found = find(folder, "here.p12", environ={"METRICSHUB_KEYSTORE": "there.p12"})
    assert (found.rule, found.path) == ("option", "here.p12")


def test_an_empty_option_is_not_replaced(folder: Path) -> None:
    """`--keystore ""` never quietly means another file."""
    assert find(folder, "", environ={"METRICSHUB_KEYSTORE": "there.p12"}).path == ""


def test_the_environment_comes_second(folder: Path) -> None:
    """The variable wins over an installation and over Windows's data folder."""
    make(folder, "lib/app")
    environ = {"METRICSHUB_KEYSTORE": "there.p12", "ProgramData": "data"}
    for platform in ("linux", "win32"):
        found = find(folder, environ=environ, platform=platform)
        assert (found.rule, found.path) == ("environment", "there.p12")


def test_an_empty_variable_is_unset(folder: Path) -> None:
    """An empty METRICSHUB_KEYSTORE names no keystore."""
    make(folder, "lib/app")
    assert find(folder, environ={"METRICSHUB_KEYSTORE": ""}).rule == "installation"


def test_windows_keeps_it_in_program_data(folder: Path, tmp_path: Path) -> None:
    """On Windows the program data folder wins over the installation; elsewhere it is nothing."""
    make(folder, "lib/app")
    data = tmp_path / "data"
    environ = {"ProgramData": str(data)}
    expected = data / "MetricsHub" / "security" / FILE_NAME
    check(find(folder, environ=environ, platform="win32"), "program-data", expected)
    assert find(folder, environ=environ, platform="linux").rule == "installation"


@pytest.mark.parametrize("app", ["lib/app", "app"])
def test_a_clone_on_windows(folder: Path, tmp_path: Path, app: str) -> None:
    """A clone's start script uses the clone's folder, unless that is in an installation."""
    make(folder, "src/metricshub_apikey")
    (folder / "pyproject.toml").touch()
    environ = {"ProgramData": str(tmp_path / "data")}
    check(
        find(folder, environ=environ, platform="win32"),
        "checkout",
        folder / "security" / FILE_NAME,
    )
    make(folder.parent, app)
    assert find(folder, environ=environ, platform="win32").rule == "program-data"


@pytest.mark.parametrize("environ", [{}, {"ProgramData": ""}])
def test_windows_without_program_data(folder: Path, environ: dict[str, str]) -> None:
    """Without the variable Windows uses the installation, too."""
    make(folder, "lib/app")
    expected = folder / "lib" / "security" / FILE_NAME
    check(find(folder, environ=environ, platform="win32"), "installation", expected)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_an_installation_is_known_by_its_app(folder: Path, platform: str) -> None:
    """Where there is `lib/app`, the keystore is in `lib/security`, made or not."""
    make(folder, "lib/app", "security")
    expected = folder / "lib" / "security" / FILE_NAME
    check(find(folder, platform=platform), "installation", expected)


@pytest.mark.parametrize("security", ["security", "lib/security"])
def test_an_installation_is_known_by_its_keystore(folder: Path, security: str) -> None:
    """A keystore in `security` or `lib/security` makes an installation, and stays in use."""
    make(folder, security)
    assert find(folder).rule == "user-data"
    (folder / security / FILE_NAME).touch()
    check(find(folder), "installation", folder / security / FILE_NAME)


def test_lib_security_wins(folder: Path) -> None:
    """Where both folders are there, it is `lib/security`, which packages really use."""
    make(folder, "security", "lib/security")
    (folder / "security" / FILE_NAME).touch()
    check(find(folder), "installation", folder / "lib" / "security" / FILE_NAME)


def test_a_folder_named_like_the_keystore_is_none(folder: Path) -> None:
    """Only a file counts as a keystore."""
    make(folder, f"security/{FILE_NAME}")
    assert find(folder).rule == "user-data"


@pytest.mark.parametrize("part", ["pyproject.toml", "src/metricshub_apikey"])
def test_half_a_checkout_is_none(folder: Path, part: str) -> None:
    """Some other project's folder with a `bin` is not mistaken for ours."""
    make(folder, part)
    assert find(folder).rule == "user-data"


def test_a_checkout(folder: Path, tmp_path: Path) -> None:
    """In a checkout of this project the keystore is in `security`, before any installation."""
    make(folder, "src/metricshub_apikey")
    make(tmp_path, "opt/lib/app")
    (folder / "pyproject.toml").touch()
    expected = folder / "security" / FILE_NAME
    check(find(folder, default=tmp_path / "opt"), "checkout", expected)


def test_a_linked_launcher_means_where_the_link_is(folder: Path, tmp_path: Path) -> None:
    """A link to our launcher in an installation's `bin` means that installation."""
    make(folder, "src/metricshub_apikey")
    (folder / "pyproject.toml").touch()
    make(tmp_path, "opt/bin", "opt/lib/app")
    (tmp_path / "opt" / "bin" / "apikey").symlink_to(folder / "bin" / "apikey")
    expected = tmp_path / "opt" / "lib" / "security" / FILE_NAME
    check(find(tmp_path / "opt"), "installation", expected)


def test_a_linked_installation_keeps_its_name(folder: Path, tmp_path: Path) -> None:
    """The path is shown as typed, links in it not resolved."""
    make(folder, "lib/app")
    (tmp_path / "link").symlink_to(folder)
    expected = tmp_path / "link" / "lib" / "security" / FILE_NAME
    check(find(tmp_path / "link"), "installation", expected)


def test_a_relative_launcher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher started as `bin/apikey`, or from inside `bin`, is found."""
    make(folder, "lib/app")
    expected = str(folder / "lib" / "security" / FILE_NAME)
    for directory, typed in ((folder, "bin/apikey"), (folder / "bin", "apikey")):
        monkeypatch.chdir(directory)
        found = find_keystore(None, environ={}, launcher=typed, platform="linux")
        assert found.path == expected


def test_a_launcher_elsewhere_says_nothing(folder: Path) -> None:
    """Only a launcher in a folder called `bin` belongs to an installation."""
    make(folder, "lib/app")
    (folder / "bin").rename(folder / "sbin")
    launcher = str(folder / "sbin" / "apikey")
    found = find_keystore(
        None,
        environ={},
        launcher=launcher,
        platform="linux",
        default_installation=str(folder / "not installed"),
    )
    assert found.rule == "user-data"


@pytest.mark.parametrize(
    ("made", "security"),
    [("", "security"), ("lib", "security"), ("lib/app", "lib/security"), ("lib/security",) * 2],
)
def test_the_default_installation(folder: Path, tmp_path: Path, made: str, security: str) -> None:
    """MetricsHub's usual folder is used if it is there, whatever is in it."""
    default = tmp_path / "opt"
    assert find(folder, default=default).rule == "user-data"
    make(default, made)
    expected = default / security / FILE_NAME
    check(find(folder, default=default), "default-installation", expected)


def test_the_own_installation_comes_before_the_default(folder: Path, tmp_path: Path) -> None:
    """A second installation beside `/opt/metricshub` manages its own keys."""
    make(folder, "lib/app")
    make(tmp_path, "opt")
    assert find(folder, default=tmp_path / "opt").rule == "installation"


def test_the_user_data_folder_comes_last(folder: Path) -> None:
    """With nothing installed, the keystore is where the system keeps a user's data."""
    data = platformdirs.user_data_dir("metricshub", appauthor=False)
    check(find(folder), "user-data", Path(data) / FILE_NAME)


def test_a_user_without_a_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME, and an account that could name one, no folder called `~` is made up."""

    def unknown(number: int) -> NoReturn:
        raise KeyError(number)

    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(InvalidArgumentError, match="This user has no home directory"):
        find(folder)
