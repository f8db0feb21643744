"""Permission: what rules allow, and which paths are refused before any rule is asked."""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Iterator, Sequence
from itertools import permutations
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metricshub_apikey.errors import InvalidArgumentError
from metricshub_apikey.policy.permission import Permission, normalise, readings

PIECES = [
    *("/", "/", "/", "a", "public", "x.y", "-_~", ":@!$&'()*+,="),
    *(".", "..", "%2e", "%2E", "//", "\\", "%5c", "%2f", "%2F", "%25", "%252e"),
    *(
        ";",
        "%3b",
        "%20",
        " ",
        "%00",
        "%0d%0A",
        "%7f",
        "\x00",
        "\r\n",
        "#",
        "?",
        "?a=b",
        "%3f",
        "%23",
    ),
    *("%", "%4", "%zz", "%41", "%7E", "é", "%c3%a9", "%C0%AE", "%ff", "%c2%85", "[", "|", "^"),
]
TARGETS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["/", "/public/", ""]), st.lists(st.sampled_from(PIECES)).map("".join)
    ),
)


def allows(rule: str, request: str) -> bool:
    """Return whether a role with one rule allows a request such as `GET /path`."""
    return Permission([rule]).allows(*request.split(" ", 1))


@pytest.fixture
def deadline() -> Iterator[None]:
    """End a test that would go on for years: the expressions look for signals while they work."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    ("rule", "allowed", "denied"),
    [
        ("GET /api", ["GET /api"], ["GET /api/", "GET /apis", "GET /", "POST /api", "GET /x/api"]),
        ("GET /api/", ["GET /api/"], ["GET /api", "GET /api/x"]),
        (
            "* /api",
            ["GET /api", "M-SEARCH /api"],
            ["get /api", "g /api", " /api", "* /api", "G T /api"],
        ),
        ("GET /", ["GET /"], ["GET /a"]),
        (
            "GET /*",
            ["GET /a", "GET /%C3%A9", "GET /*"],
            ["GET /", "GET /a/", "GET /a/b", "GET /a b"],
        ),
        ("GET /**", ["GET /", "GET /a", "GET /a/b/"], ["POST /", "HEAD /", "GET a", "GET "]),
        ("GET /api/**", ["GET /api/", "GET /api/a", "GET /api/a/b"], ["GET /api", "GET /apis/a"]),
        ("GET /a/*/c", ["GET /a/b/c"], ["GET /a/c", "GET /a/b/b/c", "GET /a/b/c/"]),
        ("GET /a/**/c", ["GET /a/c", "GET /a/b/c", "GET /a/c/c"], ["GET /a/b", "GET /ac"]),
        ("GET /**/c/", ["GET /c/", "GET /a/b/c/"], ["GET /c", "GET /bc/"]),
        ("GET /a/**/", ["GET /a/", "GET /a/b/c/"], ["GET /a", "GET /a/b"]),
        ("GET /a/**/**/b", ["GET /a/b", "GET /a/x/y/b"], ["GET /a"]),
        (
            "GET /*.json",
            ["GET /a.json", "GET /.json"],
            ["GET /ajson", "GET /a.json5", "GET /a/.json"],
        ),
        ("GET /a*b*c", ["GET /abc", "GET /a-bb-cc"], ["GET /ac", "GET /ab/c", "GET /abcd"]),
        ("GET /a.c", ["GET /a.c"], ["GET /abc"]),
        ("GET /a+(b)$", ["GET /a+(b)$"], ["GET /aab", "GET /ab"]),
    ],
)
def test_rules(rule: str, allowed: Sequence[str], denied: Sequence[str]) -> None:
    """A rule allows what it says from end to end, and nothing beside it."""
    assert [request for request in allowed if not allows(rule, request)] == []
    assert [request for request in denied if allows(rule, request)] == []


def test_no_rules_allow_nothing() -> None:
    """What nobody allowed is denied."""
    assert not Permission([]).allows("GET", "/")
    assert not Permission([]).allows("", "")


def test_several_rules_add_up() -> None:
    """A request that any of the rules allows is allowed, and one between two is not."""
    role = Permission(["GET /a/**", "POST /b"])
    assert role.allows("GET", "/a/b")
    assert role.allows("POST", "/b")
    assert not role.allows("POST", "/a/b")
    assert not role.allows("GET", "/b")


def test_methods_are_not_related() -> None:
    """Neither HEAD nor OPTIONS comes with GET."""
    for method in ("HEAD", "OPTIONS", "GETT", "GE", "get"):
        assert not Permission(["GET /**"]).allows(method, "/a")


def test_a_method_cannot_bring_a_path() -> None:
    """A method or a path with a space or a line in it fits no rule."""
    role = Permission(["GET /public/**", "* /all/**"])
    assert not role.allows("GET /public/", "/admin")
    assert not role.allows("X /all/", "/admin")
    assert not role.allows("GET", "/public/ /admin")
    assert not role.allows("GET", "/public/\n/admin")
    assert not role.allows("GET\n", "/public/a")
    assert not role.allows("GET", "/public/a\n")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("", "'' is not a method in upper case, nor *"),
        ("/api", "'/api' is not a method in upper case, nor *"),
        ("get /api", "'get' is not a method in upper case, nor *"),
        ("GET,POST /api", "'GET,POST' is not a method in upper case, nor *"),
        ("GE* /api", "'GE*' is not a method in upper case, nor *"),
        ("GET", "its path does not start with a slash"),
        ("GET api", "its path does not start with a slash"),
        ("GET  /api", "its path does not start with a slash"),
        ("GET **", "its path does not start with a slash"),
        ("GET\t/api", "'GET\t/api' is not a method in upper case, nor *"),
        ("GET /a**", "** stands alone in its segment"),
        ("GET /**.json", "** stands alone in its segment"),
        ("GET /***", "** stands alone in its segment"),
        ("GET /api?x=1", "no request has such a path; write /api"),
        ("GET /%7eme", "no request has such a path; write /~me"),
    ],
)
def test_what_is_no_rule(rule: str, why: str) -> None:
    """A bad rule is named with what is wrong, and an example of a good one."""
    with pytest.raises(InvalidArgumentError) as caught:
        Permission(["GET /", rule])
    assert caught.value.message == f"'{rule}' is not a rule: {why}."
    assert caught.value.hint == "A rule is a method and a path, such as 'GET /api/**' or '* /**'."


@pytest.mark.parametrize(
    "path", ["/a//b", "/a/../b", "/a b", "/é", "/%2f", "/a\\b", "/a#b", "/%zz"]
)
def test_rules_that_nothing_could_fit(path: str) -> None:
    """A rule for a path that is refused before any rule is asked would be a silent no."""
    with pytest.raises(
        InvalidArgumentError, match="is not a rule: no request has such a path: The"
    ):
        Permission([f"GET {path}"])


def fits(rule: Sequence[str], path: Sequence[str]) -> bool:
    """Compare segment by segment and try every way: what the rules mean, slow and plain."""
    if not rule:
        return not path
    if rule[0] == "**":
        if len(rule) == 1:
            return bool(path)
        return fits(rule[1:], path) or (len(path) > 1 and fits(rule, path[1:]))
    pattern = "[^/]+" if rule[0] == "*" else re.escape(rule[0]).replace(r"\*", "[^/]*")
    return bool(path and re.fullmatch(pattern, path[0])) and fits(rule[1:], path[1:])


SEGMENT = st.text("ab", min_size=1, max_size=3)
PATTERN = st.sampled_from(["**", "*"]) | st.text("ab*", min_size=1, max_size=4).filter(
    lambda segment: "**" not in segment
)


@given(
    st.lists(PATTERN, min_size=1, max_size=6),
    st.lists(SEGMENT, min_size=1, max_size=8),
    st.sampled_from([[], [""]]),
    st.sampled_from([[], [""]]),
)
@example(["**", "a", "**", "a*b", "b"], ["a", "ab", "ab", "b"], [], [])
def test_rules_mean_what_they_say(
    rule: list[str], path: list[str], rule_end: list[str], path_end: list[str]
) -> None:
    """Taking the first place where something fits never misses a way that trying all would find."""
    rule, path = rule + rule_end, path + path_end
    request = "GET /" + "/".join(path)
    assert allows("GET /" + "/".join(rule), request) == fits(rule, path)


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/**/a" * 50 + "/b", "/a" * 4_000),
        ("/**/a*a*b" * 50 + "/c", "/" + "a" * 8_000),
        ("/**/a*a*a*b" * 50 + "/c", ("/" + "a" * 50) * 160),
        ("/**/" + "*/" * 50 + "x", "/a" * 4_000),
        ("/" + "a*" * 50 + "b", "/" + "a" * 8_000),
        ("/**/*/**/*/**/*/**/*/**/*/**/*/x", "/a" * 4_000),
    ],
)
@pytest.mark.usefixtures("deadline")
def test_no_path_takes_for_ever(rule: str, path: str) -> None:
    """The longest path that almost fits many asterisks is denied at once."""
    assert not allows(f"GET {rule}", f"GET {path}")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/api/v1/hosts", "/api/v1/hosts"),
        ("/api/", "/api/"),
        ("/api?a=/../b&c=%2f%00//", "/api"),
        ("/?", "/"),
        ("/%41%7a%30%2D%2e5%5f%7E", "/Az0-.5_~"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b%3f%23", "/a%20b%3F%23"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/...a/.well-known/a../a.", "/...a/.well-known/a../a."),
        ("/%2ehidden", "/.hidden"),
        ("/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~"),
    ],
)
def test_normal_paths(target: str, path: str) -> None:
    """The query goes, unreserved characters are decoded, other escapes are kept in upper case."""
    assert normalise(target) == path


START = "does not start with a slash"
CHARACTER = "has a character that no path has, or a broken escape"
AMBIGUOUS = "is ambiguous: it has an empty or a dot segment, or an escaped slash"
NOT_UTF8 = "has escapes that are not UTF-8"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        *((target, START) for target in ("", "a", "*", "?", "http://h/a", "h:1", "%2f", "\\a")),
        *((f"/{text}", CHARACTER) for text in ("\\", "a\\..\\b", "a b", "\t", "\x00", "\x7f", "é")),
        *(
            (f"/{text}", CHARACTER)
            for text in ("#", "a#b", "a?b#c", "a?\x00", "a?b c", "a?é", "a\n")
        ),
        *(
            (f"/{text}", CHARACTER)
            for text in ("%", "%4", "%4g", "%zz", "%%34", "%u002e", '"', "[a]")
        ),
        *((f"/public/{text}", AMBIGUOUS) for text in (".", "..", "./a", "../a", "a/..", "a/./b")),
        *(
            (f"/public/{text}", AMBIGUOUS)
            for text in ("%2e%2e/a", "%2E./a", ".%2e", "a/%2e", "...")
        ),
        *(
            (f"/public/{text}", AMBIGUOUS)
            for text in ("..;/a", "..;x=y/a", "%2e%2e;", "..%3b/a", ";a/b")
        ),
        *(
            (f"/public/{text}", AMBIGUOUS)
            for text in ("..%20/a", "%20", "%20../a", "a//b", "/a", "a//")
        ),
        *(
            (f"/public/{text}", AMBIGUOUS)
            for text in ("..%2fa", "%2F", "..%5Ca", "%5c", "%25", "%252e")
        ),
        *((f"/public/{text}", AMBIGUOUS) for text in ("%00", "a%0d%0ab", "%1f", "%7F", "%c2%85")),
        ("//", AMBIGUOUS),
        ("//evil/a", AMBIGUOUS),
        ("/;/a", AMBIGUOUS),
        *(
            (f"/public/{text}", NOT_UTF8)
            for text in ("%c0%ae%c0%ae/a", "%e9", "%c3", "%c3a%a9", "%ed%a0%80")
        ),
    ],
)
def test_suspicious_paths(target: str, why: str) -> None:
    """What some server could take for another path is refused, and not quoted."""
    with pytest.raises(InvalidArgumentError) as caught:
        normalise(target)
    assert caught.value.message.startswith(f"The path of the request {why}")


def accepted(target: str) -> str | None:
    """Return the normal path of a target; None where it is refused."""
    try:
        return normalise(target)
    except InvalidArgumentError:
        return None


@given(TARGETS)
def test_normal_paths_stay_as_they_are(target: str) -> None:
    """What is normal is normal, however often it is asked, and has nothing ambiguous in it."""
    path = accepted(target)
    if path is None:
        return
    assert normalise(path) == path
    assert path.isascii()
    assert path.isprintable()
    assert not {".", ".."} & set(unquote(path).split("/"))
    assert not re.search(r"//|[\\\x00 ?#]|%[0-9a-f]?[a-f]|%(?:2F|5C|25|00)", path)


def as_upstream(path: str) -> set[str]:
    """Return what servers reach: they decode, drop parameters and climb dot segments."""
    java = unquote(re.sub(";[^/]*", "", path))
    windows = "/".join(part.rstrip(" ") for part in unquote(path).replace("\\", "/").split("/"))
    late = re.sub(";[^/]*", "", unquote(path))
    return {posixpath.normpath(one) + "/" for one in (path, unquote(path), java, windows, late)}


@given(TARGETS)
@example("/public/..;/admin")
@example("/public/%2e%2e/admin")
@example("/public/..%5cadmin")
def test_nothing_climbs_out(target: str) -> None:
    """Whatever a role for `/public/**` allows is below `/public/` for every server."""
    path = accepted(target)
    if path is None or not Permission(["* /public/**"]).allows("GET", path):
        return
    assert path.startswith("/public/")
    assert all(reached.startswith("/public/") for reached in as_upstream(path))


@given(
    st.lists(st.text("azAZ09_-", min_size=1, max_size=5), min_size=1),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "?", "?a=b&c"]),
)
def test_ordinary_paths_pass(segments: list[str], end: str, query: str) -> None:
    """Paths of letters and digits are left alone, so that the tests above do refuse on purpose."""
    path = "/" + "/".join(segments) + end
    assert normalise(path + query) == path


LETTERS = st.sampled_from(["a", "b", ".", ";", "%3B", "%3F", "%23", "%2E", "%41", "=", "%20"])
ODD_SEGMENT = st.lists(LETTERS, min_size=1, max_size=5).map("".join)
ODD_PATH = st.lists(ODD_SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
RULE_SEGMENT = st.sampled_from(["**", "*", "a", "*b", "a*", "*.a", "a;*", "*%3B*", "b"])
RULE_SETS = st.lists(
    st.lists(RULE_SEGMENT, min_size=1, max_size=3).map(lambda parts: "GET /" + "/".join(parts)),
    min_size=1,
    max_size=3,
)


def as_servers_read(path: str) -> set[str]:
    """Return what a server may take a path for: cutting, decoding, splitting, in every order."""

    def cut(text: str) -> str:
        return re.sub(";[^/]*", "", text)

    def decode(text: str) -> str:
        return re.sub("%3B|%3F|%23", lambda found: unquote(found[0]), text)

    def split(text: str) -> str:
        return re.split(r"[?#]", text, maxsplit=1)[0]

    steps = (cut, decode, split)
    found = {path}
    for order in permutations(steps):
        text = path
        for step in order:
            text = step(text)
            found.add(text)
    return found


def written(text: str) -> str:
    """Return a path that was read as it is written in a request that means nothing else."""
    return text.replace("?", "%3F").replace("#", "%23")


@given(RULE_SETS, ODD_PATH)
@example(["GET /files/*.txt"], "/files/secret;.txt")
@example(["GET /files/*.txt"], "/files/secret%3B.txt")
@example(["GET /files/*.txt"], "/files/secret%3F.txt")
@example(["GET /a/*"], "/a/b%3F/../c")
def test_what_is_allowed_is_allowed_in_every_reading(rules: list[str], target: str) -> None:
    """Whatever a server takes an allowed path for is allowed, too."""
    path, role = accepted(target), Permission(rules)
    if path is None or not role.allows("GET", path):
        return
    for reading in as_servers_read(path):
        again = accepted(written(reading))
        assert again is not None
        plain = again.replace(";", "%3B")
        assert role.allows("GET", again) or role.allows("GET", plain)


@given(ODD_PATH)
def test_readings_are_complete(target: str) -> None:
    """What is read once more is no new path, and each way in which servers read is among them."""
    path = accepted(target)
    if path is None:
        return
    known = readings(path)
    assert {one for reading in known for one in readings(reading)} == known
    bare = {one for one in as_servers_read(path) if not re.search("[;?#]", one)}
    assert {one for one in bare if not re.search("%(3B|3F|23)", one)} <= known
