"""The table of `list --long`: at every width, and whatever somebody wrote into a keystore."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from clock import HERE, at
from metricshub_apikey.cli.commands.list import Listing, View
from metricshub_apikey.cli.output import Form, Output
from metricshub_apikey.cli.table import MOST_DRAWN, timeline
from metricshub_apikey.formats.visible import escape
from metricshub_apikey.keys.api_key import ApiKey
from metricshub_apikey.keys.expiry import to_local
from metricshub_apikey.keys.fingerprint import fingerprint
from metricshub_apikey.keys.metadata import Metadata
from metricshub_apikey.keys.selection import Usage
from metricshub_apikey.secret import UNREADABLE, Secret

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)
DAY = timedelta(days=1)
SECRET = "eb47c2be-927f-495f-aa97-0ba0f60b8986"
MASKED = "…8986"

RED, GREEN, YELLOW, MAGENTA = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"

KEY = ApiKey(
    "ci-prod",
    Secret(SECRET),
    to_local(NOW + 90 * DAY, HERE),
    int(NOW.timestamp() * 1000),
    None,
    Metadata("ann@build.example.com", ("alert-manager", "metrics-writer"), "ci"),
)
STOCK = ApiKey("stock", Secret(SECRET), None, None)

NOBODY_RECORDS = Usage()

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def listing(keys: list[ApiKey], usage: Usage = NOBODY_RECORDS, view: View = View.LONG) -> Listing:
    """Return what `list --long` shows, or another view."""
    return Listing(keys, now=at(NOW), usage=usage, keystore="k.p12", view=view, all_keys=True)


def draw(
    keys: list[ApiKey],
    width: int,
    capsys: Capture,
    *,
    color: bool = False,
    usage: Usage = NOBODY_RECORDS,
    view: View = View.LONG,
) -> list[str]:
    """Return the lines of the table on a terminal of *width* columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        Output(Form.TEXT, color=color).show(listing(keys, usage, view))
    return capsys.readouterr().out.splitlines()


def test_wide(capsys: Capture) -> None:
    """A key is a line, with what is known of it."""
    heading, rule, key, stock = draw([KEY, STOCK], 200, capsys)
    assert re.split("  +", heading) == [
        "Alias", "Key", "Roles", "Account", "Created", "By", "Expires",
    ]  # fmt: skip
    assert set(rule) == {"─"}
    assert re.split("  +", key) == [
        "ci-prod", "…8986", "alert-manager, metrics-writer", "ci", "2030-05-06",
        "ann@build.example.com", "2030-08-04, in 90 days",
    ]  # fmt: skip
    assert re.split("  +", stock) == ["stock", "…8986", "-", "-", "unknown", "unknown", "never"]


def test_eighty_columns(capsys: Capture) -> None:
    """On a usual terminal only long cells go on in a second line; dates fall away."""
    assert draw([KEY, STOCK], 80, capsys) == [
        "Alias    Key    Roles           Account  Created     By              Expires",
        "────────────────────────────────────────────────────────────────────────────────",
        "ci-prod  …8986  alert-manager,  ci       2030-05-06  ann@build.exam  in 90 days",
        "                metrics-writer                       ple.com",
        "stock    …8986  -               -        unknown     unknown         never",
    ]


def test_fifty_columns(capsys: Capture) -> None:
    """Where it is narrower still, the table says what it leaves out."""
    assert draw([KEY, STOCK], 50, capsys) == [
        "Alias    Key    Roles                  Expires",
        "──────────────────────────────────────────────────",
        "ci-prod  …8986  alert-manager,         in 90 days",
        "                metrics-writer",
        "stock    …8986  -                      never",
        "Left out for want of room: By, Created, Account.",
    ]


def test_what_is_not_known_of_any_key_has_no_column(capsys: Capture) -> None:
    """Empty columns fall away."""
    assert draw([STOCK], 80, capsys)[0].split() == ["Alias", "Key", "Expires"]


def ending(alias: str, end: timedelta, **others: str) -> ApiKey:
    """Return a key that ends so long from now."""
    return KEY._replace(alias=alias, expires_on=to_local(NOW + end, HERE), **others)  # type: ignore[arg-type]


KINDS = [
    (STOCK, GREEN),
    (ending("far", 31 * DAY), GREEN),
    (ending("soon", 30 * DAY), YELLOW),
    (ending("dead", timedelta()), RED),
    (STOCK._replace(alias="held", suspended=True), MAGENTA),
    (KEY._replace(alias="bad", secret=UNREADABLE, expires_on=None, unreadable="why"), RED),
]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("view", [View.LONG, View.TIMELINE])
def test_colours(capsys: Capture, width: int, view: View) -> None:
    """The state has its colour, and nothing else of the row; an expired key is never green."""
    lines = draw([key for key, _ in KINDS], width, capsys, color=True, view=view)
    for key, style in KINDS:
        (line,) = (one for one in lines if one.startswith(key.alias))
        found = [one for one in re.findall(r"\x1b\[[0-9;]*m", line) if one != "\x1b[0m"]
        assert set(found) == {style}, line
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in lines]
    assert plain == draw([key for key, _ in KINDS], width, capsys, view=view)


def test_the_timeline(capsys: Capture) -> None:
    """A bar is as long as its key lives within twelve months; months stand where they begin."""
    keys = [ending("a", 182 * DAY), ending("b", 364 * DAY), STOCK, ending("dead", -DAY)]
    assert draw(keys, 80, capsys, view=View.TIMELINE) == [
        "Alias      Jun  Jul  Aug  Sep  Oct  Nov  Dec  Jan  Feb  Mar  Apr     Expires",
        "a      ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━●                                in 182 days",
        "b      ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━●   in 364 days",
        "stock  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━▶  never",
        "dead                                                                 1 day ago",
    ]


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.integers(-400, 4_000), min_size=1, max_size=6),
    name=st.text(max_size=60),
    width=st.integers(41, 200),
)
def test_any_timeline(ends: list[int], name: str, width: int) -> None:
    """No line is too long, and of two keys the one that lives longer has no shorter bar."""
    keys = [ending(name, days * DAY) for days in ends]
    lines = timeline(keys, now=at(NOW), width=width).plain.split("\n")
    assert max(map(cell_len, lines)) <= width
    bars = [line.count("━") for line in lines[1:]]
    for one, bar in zip(ends, bars, strict=True):
        assert all(bar <= other for days, other in zip(ends, bars, strict=True) if days >= one)


def test_the_option_wins_over_the_variable(capsys: Capture, monkeypatch: Patch) -> None:
    """Colour that was asked for is shown, whatever Rich finds in the environment."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert YELLOW in "".join(draw([ending("soon", DAY)], 60, capsys, color=True))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in "".join(draw([ending("soon", DAY)], 60, capsys))


def test_the_last_use(capsys: Capture) -> None:
    """A use is shown by its age; one that nobody recorded is unknown, never "never"."""
    usage = Usage({fingerprint(SECRET): NOW - 3 * DAY}, NOW - 50 * DAY)
    other = STOCK._replace(secret=Secret("other"))
    used, unknown = draw([STOCK, other], 200, capsys, usage=usage)[2:]
    assert "3 days ago" in used
    assert re.search("unknown +never$", unknown)


def test_many_keys_are_plain_lines(capsys: Capture) -> None:
    """A table that Rich would take long to draw has a line for each key, aligned."""
    keys = [KEY._replace(alias=f"日本{number}") for number in range(MOST_DRAWN + 1)]
    heading, *lines = draw(keys, 80, capsys, color=True)
    assert len(lines) == len(keys)
    column = heading.index("Key")
    for line in lines:
        before, mask, _ = line.partition(MASKED)
        assert mask
        assert cell_len(before) == column


hostile = st.text(st.characters() | st.sampled_from("[]/\\\x1b\n\t\u202e日本*"), max_size=150)


@settings(max_examples=60, deadline=None)
@given(
    alias=hostile,
    roles=st.lists(hostile, max_size=4),
    account=hostile | st.none(),
    maker=hostile | st.none(),
    width=st.sampled_from([41, 60, 80, 100, 160, 250]),
)
def test_whatever_is_in_a_keystore(
    alias: str, roles: list[str], account: str | None, maker: str | None, width: int
) -> None:
    """No line is too long, no mask is broken, nothing moves the cursor or hides."""
    with pytest.MonkeyPatch.context() as patch:
        shown: list[str] = []
        patch.setattr(Output, "write", lambda _self, text, **_: shown.append(text))
        patch.setenv("COLUMNS", str(width))
        key = KEY._replace(alias=alias, metadata=Metadata(maker, tuple(roles), account))
        Output(Form.TEXT, color=False).show(listing([key, STOCK]))
    lines = "\n".join(shown).split("\n")
    assert max(map(cell_len, lines)) <= width
    assert all(escape(line) == line for line in lines)
    assert sum(line.count(MASKED) for line in lines) >= 2
    assert "never" in "".join(lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_markup_is_only_text(capsys: Capture, width: int) -> None:
    """What Rich would take for markup, an emoji or a link is shown as it is."""
    name = "[red]x[/] :cat:"
    key = STOCK._replace(alias=name, metadata=Metadata("[b]u[/b]", ("[/]",), "[link=x]a"))
    lines = draw([key], width, capsys, color=True)
    for text in (name, "[b]u[/b]", "[/]", "[link=x]a"):
        assert any(text in line for line in lines), text
