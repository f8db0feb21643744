"""Where gateways keep what they share: the URL of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import examples
from conftest import Run
from metricshub_apikey.errors import InvalidArgumentError, PolicyError
from metricshub_apikey.policy.file import parse as parse_policy
from metricshub_apikey.policy.state import ENVIRONMENT_VARIABLE, Address, find_state, parse
from metricshub_apikey.secret import Secret

PASSWORD = "Tr0ub4dor"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address("", (("cache", 6379),), "")),
        ("redis://cache:7000/3", Address("", (("cache", 7000),), "3")),
        ("REDIS://Cache/", Address("", (("cache", 6379),), "")),
        ("redis://[::1]:7000", Address("", (("::1", 7000),), "")),
        ("rediss://cache", Address("", (("cache", 6379),), "", tls=True)),
        ("rediss://c?ca=/etc/ca.pem", Address("", (("c", 6379),), "", tls=True, ca="/etc/ca.pem")),
        ("redis://:secret@c", Address("", (("c", 6379),), "", password=Secret("secret"))),
        (
            "redis://ann:p%40ss%2F@c",
            Address("", (("c", 6379),), "", user="ann", password=Secret("p@ss/")),
        ),
        ("redis://ann@c", Address("", (("c", 6379),), "", user="ann")),
        ("redis://:a@b@c", Address("", (("c", 6379),), "", password=Secret("a@b"))),
        ("unix:///run/redis.sock", Address("", (), "/run/redis.sock")),
        ("unix:///run/my%20redis.sock", Address("", (), "/run/my redis.sock")),
        ("unix://:secret@/run/r", Address("", (), "/run/r", password=Secret("secret"))),
        (
            "redis+sentinel://a,b:27000/main",
            Address("sentinel", (("a", 26379), ("b", 27000)), "main"),
        ),
        (
            "rediss+sentinel://:secret@a/main",
            Address("sentinel", (("a", 26379),), "main", tls=True, password=Secret("secret")),
        ),
        ("redis+cluster://a,b:7000", Address("cluster", (("a", 6379), ("b", 7000)), "")),
    ],
)
def test_the_forms(url: str, address: Address) -> None:
    """Each form says what the manual says."""
    assert parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache",
        "cache:6379",
        "http://cache",
        "redis://",
        "redis:///0",
        "redis://a,b",
        "redis://cache/x",
        "redis://cache/-1",
        "redis://cache/12345",
        "redis://cache/\u0661",
        "redis://cache:0x10",
        "redis://cache:70000",
        "redis://cache?db=3",
        "redis://cache?db",
        "redis://cache?ca=/etc/ca.pem",
        "redis://[::1",
        "redis://a b",
        "redis://a\nb",
        "redis+sentinel://a",
        "redis+sentinel://a/main/2",
        "redis+cluster://a/0",
        "redis+cluster://",
        "redis+other://a",
        "unix://",
        "unix://run/redis.sock",
        "unix:///run/redis%00.sock",
        "unix+cluster:///run/redis.sock",
        # Passwords in which something should have been percent-encoded:
        f"redis://ann:12#{PASSWORD}@cache",
        f"redis://ann:12/{PASSWORD}@cache",
        f"redis://ann:12?{PASSWORD}@cache",
        f"redis+sentinel://ann:12/{PASSWORD}@cache/main",
        f"redis+cluster://ann:12/{PASSWORD}@cache",
        f"redis://:[{PASSWORD}@cache",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    """What has none of the forms is an error, which shows nothing of it."""
    with pytest.raises(InvalidArgumentError) as caught:
        parse(url)
    assert caught.value.message == "The URL in state cannot be used."
    assert caught.value.__cause__ is None
    assert PASSWORD not in f"{caught.value!r}{caught.value.hint}"


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,9}(\.[a-z]{1,5})?", fullmatch=True)
HOSTS = st.lists(st.tuples(NAMES, st.integers(1, 65535)), min_size=1, max_size=3)
SECRETS = st.text(st.characters(codec="utf-8"), min_size=4).filter(lambda text: text.strip("0:'"))
PLACES = st.one_of(
    st.builds(lambda hosts, path: ("", tuple(hosts[:1]), path), HOSTS, st.sampled_from(["", "7"])),
    st.builds(lambda hosts, path: ("sentinel", tuple(hosts), path), HOSTS, NAMES),
    st.builds(lambda hosts: ("cluster", tuple(hosts), ""), HOSTS),
)


@examples(100)
@given(PLACES, st.sampled_from(["redis", "rediss"]), st.none() | SECRETS, st.none() | SECRETS)
def test_parts_come_back(
    place: tuple[str, tuple[tuple[str, int], ...], str],
    server: str,
    user: str | None,
    password: str | None,
) -> None:
    """What a URL is made of is what it means; the password is in nothing that is shown."""
    kind, hosts, path = place
    named = ",".join(f"{host}:{port}" for host, port in hosts)
    login = f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@"
    scheme = f"{server}+{kind}" if kind else server
    address = parse(f"{scheme}://{login}{named}/{path}")
    assert address == Address(
        kind, hosts, path, server == "rediss", None, user, Secret(password) if password else None
    )
    blank = address._replace(user=None, password=None)
    assert (repr(address), str(address)) == (repr(blank), str(blank))


@examples(200)
@given(
    st.text(max_size=40)
    | st.text("redis+unixluh:/@,?#[]%ca=0 ", max_size=40).map(lambda text: f"redis://{text}")
)
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    """Whatever is typed, nothing but the one error comes of it."""
    with contextlib.suppress(InvalidArgumentError):
        address = parse(text)
        assert address.hosts or address.path


def test_who_says_it_first() -> None:
    """The option counts before the environment, and that before the policy file."""
    policy = parse("redis://policy")
    environ = {ENVIRONMENT_VARIABLE: "redis://:secret@environment"}
    assert find_state("redis://option", policy, environ) == parse("redis://option")
    assert find_state(None, policy, environ) == parse("redis://:secret@environment")
    assert find_state(None, policy, {ENVIRONMENT_VARIABLE: ""}) == policy
    assert find_state(None, None, {}) is None


def test_errors_say_where_the_url_is() -> None:
    """A URL that cannot be used is named by its place: nothing else of it may be shown."""
    with pytest.raises(InvalidArgumentError, match="The URL in --state cannot be used"):
        find_state("nowhere", None, {})
    with pytest.raises(InvalidArgumentError, match=f"The URL in {ENVIRONMENT_VARIABLE} cannot"):
        find_state(None, None, {ENVIRONMENT_VARIABLE: f"http://:{PASSWORD}@cache"})
    with pytest.raises(PolicyError, match=r"apikey\.toml, line 2: state: The URL in state"):
        parse_policy(f'\nstate = "http://:{PASSWORD}@cache"', "apikey.toml")


def test_no_password_on_the_command_line(keystore: Path, run: Run) -> None:
    """A password that everybody can read in the list of processes is refused, with the way out."""
    for command in (["list", "--long"], ["check"], ["serve"]):
        done = run(*command, "--state", f"redis://:{PASSWORD}@127.0.0.1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "the password in --state" in done.stderr
        assert ENVIRONMENT_VARIABLE in done.stderr
        assert PASSWORD not in done.stderr
    assert not keystore.exists()


def test_policy_shows_the_place_only(keystore: Path, run: Run) -> None:
    """`policy show` says where the state is, and no password."""
    keystore.parent.mkdir()
    policy = keystore.parent / "apikey.toml"
    policy.write_text(f'state = "redis://ann:{PASSWORD}@cache:7000/1"\n')
    for form in ("text", "json"):
        shown = run("policy", "show", "-o", form)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "cache:7000" in shown.stdout
        assert PASSWORD not in shown.stdout
