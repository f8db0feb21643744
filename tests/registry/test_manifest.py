"""Manifests: the list of keys to apply, in YAML and TOML."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import put
from clock import HERE
from metricshub_apikey import ApiKeys
from metricshub_apikey.errors import ManifestError
from metricshub_apikey.keys.expiry import text
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.registry.manifest import MAX_ITEMS, MAX_SIZE, Wanted, read_manifest

Zone = Callable[[str], None]

END = datetime(2027, 12, 31, 23, 59, 59)


def from_yaml(source: str) -> tuple[Wanted, ...]:
    """Return the keys in a YAML text."""
    return read_manifest("-", stdin=io.BytesIO(source.encode()), zone=HERE)


@pytest.fixture
def from_toml(tmp_path: Path) -> Callable[[str], tuple[Wanted, ...]]:
    """Return a function that returns the keys in a TOML text."""

    def read(source: str) -> tuple[Wanted, ...]:
        (tmp_path / "keys.toml").write_text(source, "utf-8")
        return read_manifest(str(tmp_path / "keys.toml"), stdin=io.BytesIO(), zone=HERE)

    return read


def refusal(source: str) -> str:
    """Return why a YAML text is refused, with the hint."""
    with pytest.raises(ManifestError) as caught:
        from_yaml(source)
    assert caught.value.message.startswith("standard input")
    reason = caught.value.message.removeprefix("standard input, ")
    return f"{reason} {caught.value.hint}" if caught.value.hint else reason


YAML = """\
# the keys of this server
keys:
  - alias: CI-Prod
    expires_in: 90d
    roles: [metrics-writer, alert-manager, metrics-writer]
    service_account: ci
    description: "nightly pipeline"
    labels:
      team: core
      env: production
  - web
  - {alias: old, expires_on: 2027-12-31}
"""

TOML = """\
# the keys of this server
[[keys]]
alias = "CI-Prod"
expires_in = "90d"
roles = ["metrics-writer", "alert-manager", "metrics-writer"]
service_account = "ci"
description = "nightly pipeline"
labels = { team = "core", env = "production" }

[[keys]]
alias = "web"

[[keys]]
alias = "old"
expires_on = 2027-12-31
"""

WANTED = (
    Wanted(
        "ci-prod",
        expires_in="90d",
        metadata={
            "roles": ("alert-manager", "metrics-writer"),
            "service_account": "ci",
            "description": "nightly pipeline",
            "labels": (("env", "production"), ("team", "core")),
        },
    ),
    Wanted("web"),
    Wanted("old", expires_on=END),
)


def test_yaml() -> None:
    """Every documented field is read; a bare text is an alias alone."""
    assert from_yaml(YAML) == WANTED
    assert from_yaml(YAML.replace("keys:\n", "")) == WANTED, "the list may stand alone"


def test_toml(from_toml: Callable[[str], tuple[Wanted, ...]]) -> None:
    """TOML says the same."""
    assert from_toml(TOML) == WANTED
    assert from_toml('keys = ["web", {alias = "x"}]') == (Wanted("web"), Wanted("x"))


def test_fields_replace_those_of_the_metadata() -> None:
    """What an item names replaces what a key has; the rest stays."""
    old = Metadata(created_by="root@host", roles=("a",), description="old", labels=(("x", "y"),))
    (one,) = from_yaml("- {alias: a, roles: [b], labels: {}}")
    assert old._replace(**one.metadata) == old._replace(roles=("b",), labels=())


@pytest.mark.parametrize("source", ["[]", "keys: []", "keys:\n  []\n", "---\n[]\n...\n"])
def test_an_empty_list(source: str) -> None:
    """No key may be wanted, if somebody says so."""
    assert from_yaml(source) == ()


def test_an_empty_list_in_toml(from_toml: Callable[[str], tuple[Wanted, ...]]) -> None:
    """No key may be wanted, in TOML, too."""
    assert from_toml("keys = []") == ()


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("roles: x", "roles", ("x",)),
        ("roles: [b, a]", "roles", ("a", "b")),
        ("roles: []", "roles", ()),
        ("roles:", "roles", ()),
        ("roles: ''", "roles", ()),
        ("service_account:", "service_account", None),
        ("service_account: ''", "service_account", None),
        ("description: ~", "description", None),
        ("description: '12'", "description", "12"),
        ("description: !!str 12", "description", "12"),
        ("labels:", "labels", ()),
        ("labels: {}", "labels", ()),
        ("labels: {b: '', a: '1', ? c : =}", "labels", (("a", "1"), ("b", ""), ("c", "="))),
    ],
)
def test_fields(source: str, name: str, value: object) -> None:
    """An empty field is taken away, and that is not the same as one that is not there."""
    assert from_yaml(f"- alias: a\n  {source}\n") == (Wanted("a", metadata={name: value}),)


# When a key ends


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("2027-12-31", END),
        ("'2027-12-31'", END),
        ("2027-12-31T23:59:59", END),
        ("2027-12-31 23:59:59", END),
        ("2027-12-31T23:59:59.999999", END),
        ("'2027-12-31T23:59'", END.replace(second=0)),
        ("2027-12-31T23:59", END.replace(second=0)),
        ("2028-01-01T04:59:59Z", END),
        ("2028-01-01T04:59:59+00:00", END),
        ("2027-12-31 21:59:59 -7", END),
        ("'2028-01-01T04:59:59Z'", END),
        ("2028-01-01T04:59Z", END.replace(second=0)),
        ("!!timestamp '2027-12-31 23:59:59'", END),
        ("!!timestamp '2027-12-31T23:59'", END.replace(second=0)),
    ],
)
def test_expires_on(zone: Zone, typed: str, expected: datetime) -> None:
    """A date time may be typed as on the command line, or as YAML has it, with a zone or not."""
    zone("America/New_York")
    (one,) = from_yaml(f"- {{alias: a, expires_on: {typed}}}")
    assert one == Wanted("a", expires_on=expected)
    assert one.expires_on is not None
    assert one.expires_on.tzinfo is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("2027-12-31", END),
        ("2027-12-31T23:59:59.5", END),
        ("2028-01-01T04:59:59Z", END),
        ("2028-01-01 05:59:59+01:00", END),
        ("'2027-12-31'", END),
    ],
)
def test_expires_on_in_toml(
    zone: Zone,
    from_toml: Callable[[str], tuple[Wanted, ...]],
    typed: str,
    expected: datetime,
) -> None:
    """TOML's dates mean the same."""
    zone("America/New_York")
    assert from_toml(f"keys = [{{alias = 'a', expires_on = {typed}}}]") == (
        Wanted("a", expires_on=expected),
    )


@pytest.mark.parametrize("typed", ["never", "'never'", "null", "~", ""])
def test_no_expiry(typed: str) -> None:
    """A key that never ends is another wish than none."""
    assert from_yaml(f"- alias: a\n  expires_on: {typed}") == (Wanted("a", no_expiry=True),)


# What is refused


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("alias: a\n  expires_on: tomorrow", "line 2: expires_on of 'a': 'tomorrow' is not a date"),
        ("alias: a\n  expires_on: 2027-13-01", "line 2: expires_on of 'a': '2027-13-01' is not a"),
        ("alias: a\n  expires_on: 2027-01-01 99:00:00", "line 2: expires_on of 'a': '2027-01-01 9"),
        ("alias: a\n  expires_on: 0001-01-01T00:00:00+14:00", "line 2: expires_on of 'a': '0001-"),
        (
            "alias: a\n  expires_on: 20271231",
            "line 2: expires_on of 'a': expected a text, not a nu",
        ),
        ("alias: a\n  expires_in: 90", "line 2: expires_in of 'a': expected a text, not a number;"),
        ("alias: a\n  expires_in: 90x", "line 2: expires_in of 'a': '90x' is not a length of time"),
        ("alias: a\n  expires_in:", "line 2: expires_in of 'a': expected a text, not nothing."),
        (
            "alias: A\n  expires_in: 1d\n  expires_on: never",
            "line 2: 'a' has both expires_on and expires_in; use one.",
        ),
        ("alias: a\n  roles: [a b]", "line 2: roles of 'a': 'a b' is not a role: 1 to 64 letters"),
        ("alias: a\n  roles: {a: b}", "line 2: roles of 'a': expected a text, not a mapping."),
        ("alias: a\n  roles: [yes]", "line 2: roles of 'a': expected a text, not true or false;"),
        ("alias: a\n  roles: [[x]]", "line 2: this is nested too deeply."),
        ("alias: a\n  service_account: ' x'", "line 2: service_account of 'a': A service account"),
        ("alias: a\n  description: 'a\tb'", "line 2: description of 'a': A description has no con"),
        ("alias: a\n  description: 1.5", "line 2: description of 'a': expected a text, not a num"),
        ("alias: a\n  labels: [x]", "line 2: labels of 'a': expected names with texts, not a list"),
        (
            "alias: a\n  labels: {port: 80}",
            "line 2: labels of 'a': port: expected a text, not a number; put it in quotes.",
        ),
        (
            "alias: a\n  labels: {since: 2027-01-01}",
            "line 2: labels of 'a': since: expected a text, not a date; put it in quotes.",
        ),
        ("alias: a\n  labels: {a b: c}", "line 2: labels of 'a': 'a b' is not the name of a label"),
        ("alias: a\n  labels: {on: x}", "line 2: a name has to be a text; put it in quotes."),
        ("alias: a\n  labels: {a: b,\n  a: c}", "line 3: 'a' is there twice."),
        ("alias: a\n  alias: b", "line 2: 'alias' is there twice."),
        ("alias: 007", "line 1: alias: expected a text, not a number; put it in quotes."),
        ("alias: no", "line 1: alias: expected a text, not true or false; put it in quotes."),
        ("role: a", "line 1: 'role' is not a field of a key. Did you mean 'roles'?"),
        ("key: a", "line 1: 'key' is not a field of a key. Known are: alias, expires_on, expires"),
        ("<<: a", "line 1: '<<' is not a field of a key."),
        ("roles: []", "line 1: this key has no alias."),
        ("{}", "line 1: this key has no alias."),
        ("12", "line 1: expected a key, not a number."),
        ("", "line 1: expected a key, not nothing."),
        ("[a]", "line 1: expected a key, not a list."),
    ],
)
def test_bad_items(item: str, reason: str) -> None:
    """What is wrong is named with the line, the key and the field, and what to do."""
    assert refusal(f"- {item}").startswith(reason)


@pytest.mark.parametrize(
    ("alias", "reason"),
    [
        ("' a'", "An alias has no white space at its ends."),
        ("Σ", "An alias has no capital sigma"),
        ("''", "An alias has 1 to 128 characters."),
        ("-y", "An alias does not begin with a hyphen"),
    ],
)
def test_an_alias_that_no_new_key_can_have(keystore: Path, alias: str, reason: str) -> None:
    """A key that is missing is not made with it; one of Java's is managed as any other."""
    wanted = from_yaml(f"- alias: a\n- alias: {alias}\n  description: x\n")
    keys = ApiKeys(keystore)
    with pytest.raises(ManifestError, match=f"^standard input, line 2: alias: {reason}"):
        keys.preview(wanted, prune=False)
    put(keystore, wanted[1].alias, b"key-of-java-1111")
    assert [step.action for step in keys.preview(wanted, prune=True).steps] == ["create", "edit"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "line 1: there is no list of keys"),
        ("# nothing\n", "line 1: there is no list of keys"),
        ("keys:", "line 1: there is no list of keys"),
        ("{}", "line 1: there is no list of keys"),
        ("ci", "line 1: there is no list of keys"),
        ("kyes: [a]", "line 1: there is no list of keys"),
        ("keys: [a]\nmore: 1", "line 2: nothing may follow"),
        ("[a]\n---\n[b]", "line 2: nothing may follow"),
        ("- a\n- b\n- A", "line 3: 'a' is in the list twice."),
        ("- a\n- {alias: &x b}\n- *x", "line 3: write out what *x stands for."),
        (
            "- !!python/object:os.system a",
            "line 1: the tag tag:yaml.org,2002:python/object:os.syst",
        ),
        ("- !x {alias: a}", "line 1: the tag !x is not used here."),
        ("- a\n- b: c: d", "line 2: this is not YAML: "),
        ("- a\n- [", "line 2: this is not YAML: "),
        ("- é\n- '\x07'", "line 2: this is not YAML: "),
        ("[" * 200_000, "line 1: this is n"),
        ("- {alias: " * 200_000, "line 1: this is n"),
        ("- {roles: [" + "a," * 1000, "line 1: this has more than 100 members."),
        ("- " + "a" * 1001, "line 1: alias: a text has at most 1,000 characters."),
    ],
)
def test_bad_texts(source: str, reason: str) -> None:
    """What is no list of keys is refused with the line, and hurts nobody."""
    assert refusal(source).startswith(reason)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "line 1: there is no list of keys"),
        ("\n[keys]\nalias = 'a'", "line 2: there is no list of keys"),
        ("keys = []\nother = 1", "line 2: 'other' is not known here"),
        ("[[keys]]\nalias = 'a'\n[[keys]]\nalias = 'A'\n", "line 3: 'a' is in the list twice."),
        ("[[keys]]\n\nrole = 'a'", "line 3: 'role' is not a field of a key."),
        ("[[keys]]\nalias = 'a'\n\nroles = [1]", "line 4: roles of 'a': expected a text, not a nu"),
        ("keys = [\n'a',\n1.5]", "line 3: expected a key, not a number."),
        ("[[keys]]\nalias = 12:00:00", "line 2: alias: expected a text, not a time; put it in q"),
        ("[[keys]]\nalias = 'a'\nalias = 'b'", "line 3: this is not TOML: "),
        ("[[keys]]\nalias = ", "line 2: this is not TOML: "),
        ("keys = " + "[" * 100_000, "is nested too deeply."),
    ],
)
def test_bad_toml(
    from_toml: Callable[[str], tuple[Wanted, ...]], tmp_path: Path, source: str, reason: str
) -> None:
    """The errors of a TOML list name its lines, too."""
    with pytest.raises(ManifestError) as caught:
        from_toml(source)
    said = re.sub(r"^,? ", "", caught.value.message.removeprefix(str(tmp_path / "keys.toml")))
    assert said.startswith(reason)


def test_the_slow_loader_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML has no C library, the same is read and refused."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert from_yaml(YAML) == WANTED
    assert refusal("- a\n- b: c: d").startswith("line 2: this is not YAML: ")
    assert refusal("- a\n- '\x07'").startswith("line 2: this is not YAML: ")
    assert refusal('- "\\UFFFFFFFF"').startswith("line 1: this is not YAML: odd escape")
    assert "An alias has no capital sigma and" in str(from_yaml('- "\\ud800"')[0].refused)
    assert refusal("[" * 5000) == "line 1: this is nested too deeply."


# Files


def test_too_many_and_too_much() -> None:
    """A list has limits that no real one reaches."""
    much = "a\n" * (MAX_SIZE // 2 + 1)
    assert refusal(much).endswith("standard input is larger than the limit of 16,777,216 bytes.")
    many = "".join(f"- a{number}\n" for number in range(MAX_ITEMS + 1))
    assert refusal(many) == f"line {MAX_ITEMS + 1}: a list has at most 100,000 keys."


def test_names_decide(tmp_path: Path) -> None:
    """A name that ends in .toml, in any letters, means TOML; everything else is YAML."""
    for name, source in (("KEYS.TOML", 'keys = ["a"]'), ("keys.yml", "- a"), ("keys", "[a]")):
        (tmp_path / name).write_text(source)
        assert read_manifest(str(tmp_path / name), stdin=io.BytesIO(), zone=HERE) == (Wanted("a"),)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_texts(tmp_path: Path, encoding: str) -> None:
    """What editors on Windows and PowerShell write is read."""
    for name, source in (("keys.toml", 'keys = ["é"]\r\n'), ("keys.yaml", "- é\r\n")):
        (tmp_path / name).write_bytes(source.encode(encoding))
        assert read_manifest(str(tmp_path / name), stdin=io.BytesIO(), zone=HERE) == (Wanted("é"),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing or special file is an error that names it, and hangs nobody."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"- a\n- \xff")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", MAX_SIZE + 1)
    for name, reason in (
        ("missing", " does not exist."),
        ("pipe", " is not a regular file."),
        (".", " is not a regular file."),
        ("large", " is larger than the limit of 16,777,216 bytes."),
        ("loop", " cannot be read: Too many levels of symbolic links."),
        ("binary", ", line 2: this is not UTF-8."),
    ):
        path = str(tmp_path / name)
        with pytest.raises(ManifestError) as caught:
            read_manifest(path, stdin=io.BytesIO(), zone=HERE)
        assert caught.value.message == path + reason


# Any list


WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda count: timezone(timedelta(minutes=count)))
MOMENTS = st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29))
END_OF_KEYS = st.one_of(
    MOMENTS.map(lambda moment: moment.replace(microsecond=0)),
    st.dates(date(1970, 1, 3), date(9999, 12, 29)),
    st.datetimes(datetime(1970, 1, 3), datetime(2037, 1, 1), timezones=OFFSETS),
    MOMENTS.map(text),
    st.just("never"),
)


@st.composite
def manifests(draw: st.DrawFn) -> list[Any]:
    """Return a list of keys as YAML and TOML both can have it."""
    aliases = draw(st.lists(WORDS, max_size=5, unique_by=str.lower))
    items: list[Any] = []
    for alias in aliases:
        fields: dict[str, st.SearchStrategy[Any]] = {
            "service_account": TEXTS | st.just(""),
            "description": TEXTS,
            "roles": st.lists(WORDS, max_size=4) | WORDS,
            "labels": st.dictionaries(
                WORDS.map(lambda name: name.replace(":", "/")), TEXTS | st.just(""), max_size=4
            ),
            draw(st.sampled_from(["expires_on", "none"])): END_OF_KEYS,
        }
        fields.pop("none", None)
        if "expires_on" not in fields and draw(st.booleans()):
            fields["expires_in"] = st.sampled_from(["90d", "1d12h"])
        item = draw(st.fixed_dictionaries({}, optional=fields))
        whole = draw(st.booleans())
        items.append({"alias": alias, **item} if item or whole else alias)
    return items


def expected(item: Any) -> Wanted:  # noqa: ANN401
    """Return what an item means."""
    fields: dict[str, Any] = {"alias": item} if isinstance(item, str) else item
    roles = fields.get("roles", ())
    values = {
        "roles": tuple(sorted({roles} if isinstance(roles, str) else set(roles))),
        "service_account": fields.get("service_account") or None,
        "description": fields.get("description"),
        "labels": tuple(sorted(fields.get("labels", {}).items())),
    }
    end = fields.get("expires_on")
    if isinstance(end, datetime):
        end = (end.astimezone().replace(tzinfo=None) if end.tzinfo else end).replace(microsecond=0)
    elif isinstance(end, date):
        end = datetime(end.year, end.month, end.day, 23, 59, 59)
    elif isinstance(end, str):
        end = None if end == "never" else datetime.fromisoformat(end)
    return Wanted(
        fields["alias"].lower(),
        end,
        fields.get("expires_in"),
        no_expiry=fields.get("expires_on") == "never",
        metadata={name: value for name, value in values.items() if name in fields},
    )


def in_toml(value: Any) -> str:  # noqa: ANN401
    """Return a value as TOML."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name)} = {in_toml(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(items=manifests(), flow=st.booleans(), bare=st.booleans())
def test_any_list_reads_the_same(
    from_toml: Callable[[str], tuple[Wanted, ...]],
    items: list[Any],
    flow: bool,  # noqa: FBT001
    bare: bool,  # noqa: FBT001
) -> None:
    """A list means the same in YAML of any style and in TOML."""
    wanted = tuple(expected(item) for item in items)
    dumped = yaml.safe_dump(items if bare else {"keys": items}, default_flow_style=flow)
    assert from_yaml(dumped) == wanted
    assert from_toml(f"keys = {in_toml(items)}") == wanted


PIECES = st.sampled_from(
    [*"[]{}:,-?*&!|>'\"#%@ \n=.", "alias", "keys", "[[keys]]", "2027-01-01", "0x", "\\u", "---"]
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.lists(PIECES, max_size=20).map(lambda pieces: "".join(pieces).encode()),
        st.text(max_size=40).map(lambda source: f"- alias: {source}".encode("utf-8", "replace")),
    ),
    slow=st.booleans(),
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, slow: bool) -> None:  # noqa: FBT001
    """Whatever is in a file, it is a list of keys or one error."""
    (tmp_path / "keys.toml").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        if slow:
            patch.delattr(yaml, "CSafeLoader")
        for path in ("-", str(tmp_path / "keys.toml")):
            try:
                found = read_manifest(path, stdin=io.BytesIO(data), zone=HERE)
            except ManifestError as error:
                assert error.message.endswith(".")  # noqa: PT017
            else:
                assert len({one.alias for one in found}) == len(found)
