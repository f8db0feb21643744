"""The policy file: where it is, every rule in it, and the error that each mistake becomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metricshub_apikey.errors import PolicyError
from metricshub_apikey.keys.durations import parse_duration
from metricshub_apikey.keys.metadata import ROLE
from metricshub_apikey.keys.prefixed import PREFIX
from metricshub_apikey.policy.file import MAX_SIZE, load, parse
from metricshub_apikey.policy.location import ENVIRONMENT_VARIABLE, FILE_NAME, find_policy
from metricshub_apikey.policy.rules import STOCK, Policy, RateLimit, Role
from metricshub_apikey.policy.state import Address
from metricshub_apikey.policy.templates import NAMES, template


def refusal(text: str) -> tuple[str, str | None]:
    """Return what is said of a policy that cannot be used, without the path, and its hint."""
    with pytest.raises(PolicyError) as caught:
        parse(text, "/etc/apikey.toml")
    path, _, sentence = caught.value.message.partition(", ")
    assert path == "/etc/apikey.toml"
    return sentence, caught.value.hint


# Reading


def test_the_documented_example() -> None:
    """The strict template is the documented example, with the four usual roles."""
    policy = parse(template("strict"), "/etc/apikey.toml")
    assert policy._replace(roles=None) == Policy(
        path="/etc/apikey.toml",
        require_expiry=True,
        default_lifetime=timedelta(days=90),
        default_lifetime_text="90d",
        lifetimes=("30d", "60d", "90d", "180d", "1y"),
        max_lifetime=timedelta(days=365),
        max_lifetime_text="1y",
        require_role=True,
        format="prefixed",
        prefix="metricshub_",
        rate_limit=RateLimit(1_000, 100),
    )
    assert policy.roles is not None
    assert list(policy.roles) == [
        "read-only",
        "metrics-writer",
        "alert-manager",
        "chat-bot",
        "full-access",
    ]
    assert policy.roles["read-only"] == Role(
        "Dashboards, reports, AI clients that only look",
        ("GET /api/**", "GET /sse", "POST /mcp/message", "* /mcp"),
        ("List*", "Get*", "CheckProtocol"),
    )
    assert policy.roles["metrics-writer"] == Role(
        "Applications that push metrics", ("POST /api/v1/metrics/**",)
    )


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        ("read-only", ["GET /api/v1/hosts", "GET /sse"], ["POST /api/v1/hosts", "HEAD /api"]),
        ("metrics-writer", ["POST /api/v1/metrics/cpu"], ["GET /api/v1/metrics/cpu", "POST /api"]),
        (
            "alert-manager",
            ["GET /api/v1/hosts", "POST /api/v1/alerts", "DELETE /api/v1/alerts/7"],
            ["POST /api/v1/hosts", "GET /sse", "POST /mcp", "GET /admin"],
        ),
        ("full-access", ["DELETE /", "POST /mcp/message", "GET /sse"], []),
    ],
)
def test_the_usual_roles(role: str, allowed: list[str], denied: list[str]) -> None:
    """The roles of the strict template do what their names say."""
    policy = parse(template("strict"), "")
    assert [one for one in allowed if policy.refusal([role], *one.split(" "))] == []
    assert [one for one in denied if not policy.refusal([role], *one.split(" "))] == []


def test_the_stock_template_asks_for_nothing() -> None:
    """Until somebody takes a `#` away, the stock template is the stock behaviour."""
    assert parse(template("stock"), "p") == STOCK._replace(path="p")
    assert all(line[:1] in ("", "#") for line in template("stock").splitlines())


def test_the_stock_template_is_one_step_from_strict() -> None:
    """What is switched off in the templates is right as soon as it is switched on."""
    lines = template("stock").splitlines()
    on = "\n".join(line[1:] if line[:2] not in ("", "# ") else line for line in lines)
    state = Address("", (("redis.example", 6379),), "", tls=True)
    strict = parse(template("strict"), "p")
    assert parse(on, "p") == strict._replace(enforced=True, state=state)


def test_templates_are_two() -> None:
    """The command line offers these names."""
    assert set(NAMES) == {"stock", "strict"}


def test_an_empty_file_asks_for_nothing() -> None:
    """A file without a rule is the stock behaviour, from a file."""
    for text in ("", "# nothing\n", "[keys]\n[rate_limit]\n", "enforced = false"):
        assert parse(text, "p") == STOCK._replace(path="p")


def test_prefixed_keys_have_a_prefix() -> None:
    """Prefixed keys without a prefix of one's own get MetricsHub's."""
    assert parse('[keys]\nformat = "prefixed"', "p").new_key(bytes).startswith("metricshub_")


def test_other_spellings_of_toml() -> None:
    """Dotted keys and inline tables mean the same."""
    text = 'keys.require_role = true\nroles = {"a.b" = {allow = ["GET /"]}}\nenforced = true'
    policy = parse(text, "p")
    assert (policy.require_role, policy.enforced) == (True, True)
    assert policy.roles == {"a.b": Role(None, ("GET /",))}


# Mistakes


KNOWN = (
    "Known are: require_expiry, default_lifetime, lifetimes, max_lifetime, require_role, "
    "format, prefix."
)


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        (
            "\n[keys]\nrequire_role = true\nrequire_expri = true",
            "line 4: 'require_expri' is not a key of [keys].",
            "Did you mean 'require_expiry'?",
        ),
        ("[keys]\nx = 1", "line 2: 'x' is not a key of [keys].", KNOWN),
        ("[keyz]", "line 1: 'keyz' is not a key of the file.", "Did you mean 'keys'?"),
        ("\n[a.b]\n", "line 2: 'a' is not a key of the file.", None),
        (
            "[rate_limit]\nenforced = true",
            "line 2: 'enforced' is not a key of [rate_limit].",
            "It belongs at the top of the file, above all tables.",
        ),
        (
            "max_lifetime = '1y'",
            "line 1: 'max_lifetime' is not a key of the file.",
            "It belongs in [keys].",
        ),
        (
            "[keys]\nallow = []",
            "line 2: 'allow' is not a key of [keys].",
            "It belongs in the table of a role, such as [roles.read-only].",
        ),
        (
            "[roles.x]\nalow = []",
            "line 2: 'alow' is not a key of [roles.x].",
            "Did you mean 'allow'?",
        ),
        (
            "keys = {require_role = true,\tmax = '1y'}",
            "line 1: 'max' is not a key of [keys].",
            None,
        ),
    ],
)
def test_unknown_keys(text: str, sentence: str, hint: str | None) -> None:
    """A key that is not known is never ignored, and where it belongs is said where it can be."""
    said, hinted = refusal(text)
    assert said == sentence
    assert hinted == hint if hint else hinted


NO_LENGTH = "is not a length of time; use 90d, 12h, 30m, 2w, 1y or 1d12h."
NO_TIME = "a key that lives for no time is of no use."
A_PREFIX = (
    "2 to 32 lower-case letters, digits or single underscores, a letter first and an "
    "underscore last."
)
A_ROLE = (
    "1 to 64 letters, digits, dots, colons, hyphens or underscores, the first one a letter or "
    "digit."
)
NO_CONTROL = "has no control characters, and no white space at its ends."
NO_METHOD = "is not a method in upper case, nor *."
A_RATE = "expected a whole number from 1 to 1,000,000."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("enforced = 'yes'", "line 1: enforced: expected true or false."),
        ("keys = 1", "line 1: keys: expected a table."),
        ("\n[[keys]]", "line 2: keys: expected a table."),
        ("roles = ['x']", "line 1: roles: expected a table."),
        ("[roles]\n\nx = 'GET /'", "line 3: roles.x: expected a table."),
        ("rate_limit = 5", "line 1: rate_limit: expected a table."),
        ("[keys]\nrequire_expiry = 1", "line 2: keys.require_expiry: expected true or false."),
        ("[keys]\nrequire_role = 'x'", "line 2: keys.require_role: expected true or false."),
        (
            "[keys]\ndefault_lifetime = 90",
            "line 2: keys.default_lifetime: expected a text in quotes.",
        ),
        ("[keys]\ndefault_lifetime = '0d'", f"line 2: keys.default_lifetime: {NO_TIME}"),
        ("[keys]\nmax_lifetime = '1 year'", f"line 2: keys.max_lifetime: '1 year' {NO_LENGTH}"),
        ("[keys]\nmax_lifetime = ''", f"line 2: keys.max_lifetime: '' {NO_LENGTH}"),
        ("[keys]\nmax_lifetime = '0y0d'", f"line 2: keys.max_lifetime: {NO_TIME}"),
        (
            "[keys]\nmax_lifetime = '999999y999999y999999y999999y'",
            "line 2: keys.max_lifetime: The expiration is after the year 9999.",
        ),
        (
            "[keys]\ndefault_lifetime = '91d'\nmax_lifetime = '90d'",
            "line 2: keys.default_lifetime: 91d is longer than max_lifetime, 90d.",
        ),
        ("[keys]\nlifetimes = '30d'", "line 2: keys.lifetimes: expected a list."),
        ("[keys]\nlifetimes = []", "line 2: keys.lifetimes: expected at least one length of time."),
        ("[keys]\nlifetimes = [\n'1d',\n30]", "line 4: keys.lifetimes: expected a text in quotes."),
        ("[keys]\nlifetimes = ['1d',\n'x']", f"line 3: keys.lifetimes: 'x' {NO_LENGTH}"),
        ("[keys]\nlifetimes = ['0m']", f"line 2: keys.lifetimes: {NO_TIME}"),
        (
            "[keys]\nlifetimes = [\n  '30d',\n  '2y',\n]\nmax_lifetime = '1y'",
            "line 4: keys.lifetimes: 2y is longer than max_lifetime, 1y.",
        ),
        ("[keys]\nformat = 'UUID'", "line 2: keys.format: expected 'uuid' or 'prefixed'."),
        ("[keys]\nformat = true", "line 2: keys.format: expected a text in quotes."),
        (
            "[keys]\nprefix = 'Secret'",
            f"line 2: keys.prefix: 'Secret' is not a prefix: {A_PREFIX}",
        ),
        ("[keys]\nprefix = 1", "line 2: keys.prefix: expected a text in quotes."),
        (
            "[roles.'a b']\nallow = []",
            f"line 1: roles.'a b': 'a b' is not a role: {A_ROLE}",
        ),
        ("[roles.x]\ndescription = 1", "line 2: roles.x.description: expected a text in quotes."),
        (
            '[roles.x]\ndescription = "a\\nb"',
            f"line 2: roles.x.description: A description {NO_CONTROL}",
        ),
        ("[roles.x]\nallow = 'GET /'", "line 2: roles.x.allow: expected a list."),
        ("[roles.x]\ntools = 'List*'", "line 2: roles.x.tools: expected a list."),
        (
            "[roles.x]\ntools = ['']",
            "line 2: roles.x.tools: a tool's name has 1 to 128 printable characters.",
        ),
        (
            "[roles.x]\nnetworks = [\n'10.0.0.1/8']",
            "line 3: roles.x.networks: this is not a network: 10.0.0.1/8 has host bits set.",
        ),
        (
            "[roles.x]\nnetworks = []",
            "line 2: roles.x.networks: expected at least one network, such as 10.0.0.0/8.",
        ),
        (
            "[roles.x]\nburst_per_second = 0",
            f"line 2: roles.x.burst_per_second: {A_RATE}",
        ),
        (
            "[gateway]\npublic = ['OPTIONS /**', '* /**']",
            "line 2: gateway.public: '* /**' would let every request pass without a key.",
        ),
        (
            "[mcp]\npaths = ['mcp']",
            "line 2: mcp.paths: 'mcp' is not a path: its path does not start with a slash.",
        ),
        ("[roles.x]\nallow = [\n1]", "line 3: roles.x.allow: expected a text in quotes."),
        (
            "[roles.x]\nallow = [\n'GET /',\n'get /']",
            f"line 4: roles.x.allow: 'get /' is not a rule: 'get' {NO_METHOD}",
        ),
        (
            "[rate_limit]\nrequests_per_minute = 0",
            f"line 2: rate_limit.requests_per_minute: {A_RATE}",
        ),
        ("[rate_limit]\nburst_per_second = true", f"line 2: rate_limit.burst_per_second: {A_RATE}"),
        ("[rate_limit]\nburst_per_second = -5", f"line 2: rate_limit.burst_per_second: {A_RATE}"),
        ("[rate_limit]\nburst_per_second = 1.5", f"line 2: rate_limit.burst_per_second: {A_RATE}"),
        (
            "[rate_limit]\nrequests_per_minute = 1000001",
            f"line 2: rate_limit.requests_per_minute: {A_RATE}",
        ),
        ("[keys\n", "line 1: this is not TOML: Expected ']' at the end of a table declaration."),
    ],
)
def test_bad_values(text: str, sentence: str) -> None:
    """Every value that makes no sense is named with its line and what is wrong with it."""
    assert refusal(text)[0] == sentence


def test_a_bad_rule_has_an_example() -> None:
    """The hint of a converter reaches the reader of the file."""
    _, hint = refusal("[roles.x]\nallow = ['/api']")
    assert hint == "A rule is a method and a path, such as 'GET /api/**' or '* /**'."


# Any policy


DURATIONS = st.from_regex(r"([1-9][0-9]{0,2}[ywdhm]){1,2}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20)
RULES = st.sampled_from(["GET /**", "* /a/*", "POST /a/**/b*.c/", "M-SEARCH /a%20b"])


@st.composite
def granting(draw: st.DrawFn, roles: dict[str, Role]) -> dict[str, Role]:
    """Return the roles, each of which may grant some of those that manage no keys."""
    plain = [name for name, role in roles.items() if not role.manage]
    some = st.lists(st.sampled_from(plain), unique=True) if plain else st.just([])
    return {name: role._replace(may_grant=tuple(draw(some))) for name, role in roles.items()}


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Return a policy with any right values."""
    lengths = sorted(draw(st.lists(DURATIONS, min_size=2, max_size=5)), key=parse_duration)
    longest = draw(st.none() | st.just(lengths[-1]))
    default = draw(st.none() | st.sampled_from(lengths))
    rates = st.integers(1, 1_000_000)
    roles = st.dictionaries(
        st.from_regex(ROLE, fullmatch=True),
        st.builds(
            Role,
            description=st.none() | TEXTS,
            allow=st.lists(RULES, max_size=3).map(tuple),
            tools=st.sampled_from([(), ("*",), ("List*", "[!a]?")]),
            networks=st.sampled_from([None, ("10.0.0.0/8", "::1/128")]),
            requests_per_minute=st.none() | rates,
            burst_per_second=st.none() | rates,
            manage=st.sampled_from([(), ("list", "create")]),
            may_grant=st.just(()),
            self_rotate=st.booleans(),
        ),
        max_size=3,
    )
    return Policy(
        path="p",
        enforced=draw(st.booleans()),
        require_expiry=draw(st.booleans()),
        default_lifetime=parse_duration(default) if default else None,
        default_lifetime_text=default,
        lifetimes=draw(st.sampled_from([(), tuple(lengths)])),
        max_lifetime=parse_duration(longest) if longest else None,
        max_lifetime_text=longest,
        require_role=draw(st.booleans()),
        format=draw(st.sampled_from(["uuid", "prefixed"])),
        prefix=draw(st.from_regex(PREFIX, fullmatch=True)),
        roles=draw(st.none() | roles.flatmap(granting)),
        rate_limit=RateLimit(draw(rates), draw(rates)),
    )


def rendered(policy: Policy) -> str:
    """Return a policy as TOML; JSON's texts and lists of texts are TOML's, too."""
    keys = {
        "require_expiry": policy.require_expiry,
        "default_lifetime": policy.default_lifetime_text,
        "lifetimes": list(policy.lifetimes) or None,
        "max_lifetime": policy.max_lifetime_text,
        "require_role": policy.require_role,
        "format": policy.format,
        "prefix": policy.prefix,
    }
    lines = [f"enforced = {json.dumps(policy.enforced)}", "[keys]"]
    lines += [f"{name} = {json.dumps(one)}" for name, one in keys.items() if one is not None]
    lines += ["[rate_limit]"]
    lines += [f"{name} = {count}" for name, count in policy.rate_limit._asdict().items()]
    lines += ["[roles]"] if policy.roles is not None else []
    for name, role in (policy.roles or {}).items():
        lines += [f"[roles.{json.dumps(name)}]", f"allow = {json.dumps(role.allow)}"]
        lines += [f"tools = {json.dumps(role.tools)}"]
        optional = {**role._asdict(), "description": None, "tools": None, "allow": None}
        lines += [f"{key} = {json.dumps(one)}" for key, one in optional.items() if one is not None]
        if role.description is not None:
            lines += [f"description = {json.dumps(role.description, ensure_ascii=False)}"]
    return "\n".join(lines)


@settings(max_examples=50, deadline=None)
@given(policies())
def test_any_right_policy_is_read(policy: Policy) -> None:
    """What a policy says is what is read from its file."""
    assert parse(rendered(policy), "p") == policy


ODD_LINES = ["[", "]", "{}", "''", '"""', "=", ",", ".", "[x]", "[[keys]]", "x=1", "keys=1"]
LINES = st.sampled_from([*template("strict").splitlines(), *ODD_LINES])


@settings(deadline=None)
@given(st.lists(LINES, max_size=12).map("\n".join) | st.text())
@example("\ufeff")
def test_any_text_is_a_policy_or_an_error_with_its_line(text: str) -> None:
    """Whatever is in the file, there is no other outcome."""
    try:
        assert parse(text, "p").path == "p"
    except PolicyError as error:
        assert error.message.startswith("p, line ")  # noqa: PT017


# The file


def write(folder: Path, content: bytes) -> str:
    """Write a policy file and return its path."""
    file = folder / FILE_NAME
    file.write_bytes(content)
    return str(file)


def test_load(tmp_path: Path) -> None:
    """A file is read as it is, with Windows's line ends and byte order mark, too."""
    for content in (b"enforced = true\n[keys]\n", b"\xef\xbb\xbfenforced = true\r\n[keys]\r\n"):
        path = write(tmp_path, content)
        assert load(path) == STOCK._replace(path=path, enforced=True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"# \xc3\xa9\n# \xe9\n", ", line 2: this is not UTF-8."),
        (b"#" * (MAX_SIZE + 1), " is larger than the limit of 1,048,576 bytes."),
        (b"\x00", ", line 1: this is not TOML: Invalid statement."),
        (b"[keys]\nx = 1", ", line 2: 'x' is not a key of [keys]."),
    ],
)
def test_files_that_are_no_policy(tmp_path: Path, content: bytes, why: str) -> None:
    """What is in the file is refused with its path."""
    path = write(tmp_path, content)
    with pytest.raises(PolicyError) as caught:
        load(path)
    assert caught.value.message == path + why


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, a FIFO that nobody writes to and a device are refused at once."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, Path("/dev/zero")):
        with pytest.raises(PolicyError) as caught:
            load(str(path))
        assert caught.value.message == f"{path} is not a regular file."


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that was named and is not there is an error, and so is a link to nowhere."""
    path = str(tmp_path / "none.toml")
    with pytest.raises(PolicyError) as caught:
        load(path)
    assert (caught.value.message, caught.value.hint) == (f"There is no policy file {path}.", None)
    os.symlink("nowhere", path)
    with pytest.raises(PolicyError) as caught:
        load(path)
    assert caught.value.hint == "It is a link, and what it points to is missing."


def test_a_loop_of_links(tmp_path: Path) -> None:
    """What the operating system says against a file is the error."""
    path = tmp_path / "loop.toml"
    path.symlink_to(path)
    with pytest.raises(PolicyError, match=r"loop\.toml cannot be read: Too many levels"):
        load(str(path))


LOAD = """
import os, sys
from metricshub_apikey.policy.file import load
from metricshub_apikey.policy.location import find_policy
from metricshub_apikey.errors import PolicyError
import pwd, shlex, tomllib
path, keystore = sys.argv[1:]
if not os.geteuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(find_policy(None, keystore, {}))
try:
    load(path)
except PolicyError as error:
    print(error.message, error.hint, sep="\\n")
"""


def as_ordinary_user(path: Path, keystore: Path) -> list[str]:
    """Return the policy that an ordinary user finds, and what they are told of the file *path*."""
    arguments = [sys.executable, "-c", LOAD, str(path), str(keystore)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_file_for_others(public: Path) -> None:
    """A policy that one may not read is named, with who may; it is not passed over."""
    path = Path(write(public, b""))
    path.chmod(0)
    found, sentence, hint = as_ordinary_user(path, public / "k.p12")
    assert (found, sentence) == (str(path), f"Access denied to {path}.")
    assert hint


def test_a_directory_for_others(public: Path) -> None:
    """Whoever may not enter the keystore's directory hears of the keystore, not of a policy."""
    path = Path(write(public, b""))
    closed = public / "closed"
    closed.mkdir(0o000)
    assert as_ordinary_user(path, closed / "k.p12") == ["None"]


# Where it is


def test_the_option_comes_first(keystore: Path) -> None:
    """`--policy` wins over everything, and is taken as it is, even empty."""
    environ = {ENVIRONMENT_VARIABLE: "there.toml"}
    assert find_policy("here.toml", str(keystore), environ) == "here.toml"
    assert find_policy("", str(keystore), environ) == ""


def test_then_the_environment(keystore: Path) -> None:
    """The variable wins over the file beside the keystore; an empty one is none."""
    keystore.parent.mkdir()
    beside = write(keystore.parent, b"")
    assert find_policy(None, str(keystore), {ENVIRONMENT_VARIABLE: "x.toml"}) == "x.toml"
    assert find_policy(None, str(keystore), {ENVIRONMENT_VARIABLE: ""}) == beside


def test_then_the_file_beside_the_keystore(keystore: Path) -> None:
    """A file beside the keystore counts, also before there is a keystore."""
    assert find_policy(None, str(keystore), {}) is None
    keystore.parent.mkdir()
    assert find_policy(None, str(keystore), {}) is None
    beside = write(keystore.parent, b"")
    assert find_policy(None, str(keystore), {}) == beside


def test_links_to_the_keystore_are_followed(keystore: Path, tmp_path: Path) -> None:
    """What lies beside a link says nothing; what lies beside the file itself does."""
    keystore.parent.mkdir()
    keystore.touch()
    link = tmp_path / "link.p12"
    link.symlink_to(keystore)
    write(tmp_path, b"")
    assert find_policy(None, str(link), {}) is None
    beside = write(keystore.parent, b"")
    assert find_policy(None, str(link), {}) == beside


def test_something_else_beside_the_keystore(keystore: Path) -> None:
    """A link to nowhere or a directory is not passed over: `load` says what is wrong."""
    keystore.parent.mkdir()
    beside = keystore.parent / FILE_NAME
    beside.symlink_to("nowhere")
    assert find_policy(None, str(keystore), {}) == str(beside)
    beside.unlink()
    beside.mkdir()
    assert find_policy(None, str(keystore), {}) == str(beside)


def test_a_keystore_that_is_nowhere(tmp_path: Path) -> None:
    """A path through a file has no policy beside it; one that is too long may have one."""
    file = tmp_path / "file"
    file.touch()
    assert find_policy(None, str(file / "k.p12"), {}) is None
    long = tmp_path / ("x" * 300) / "k.p12"
    assert find_policy(None, str(long), {}) == str(long.parent / FILE_NAME)


def test_start_up_stays_cheap() -> None:
    """Nobody without a policy file pays for reading TOML."""
    check = (
        "import sys, metricshub_apikey.policy.file; print({'tomllib', 'difflib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
