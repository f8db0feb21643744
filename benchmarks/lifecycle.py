"""What the commands for the life of keys take where there are many keys."""

from __future__ import annotations

from bench import Bench, peak, walls
from measure import run, side_by_side
from report import Row, Section, at_most

SECONDS = at_most(10)


def managed_keys(bench: Bench) -> Section:
    """Measure the commands that look at, or change, all keys at once."""
    directory, runs = bench.directory, bench.plan.derivations
    looking = {
        "list": ["list"],
        "list --long": ["list", "--long"],
        "list -o json": ["list", "-o", "json"],
        "check": ["check"],
        "check -o prometheus": ["check", "-o", "prometheus"],
        "scan, 100 MB": ["scan", str(directory / "tree")],
        "apply, nothing differs": ["apply", str(directory / "managed" / "same.yaml")],
        "apply --dry-run, half differs": [
            "apply",
            "--dry-run",
            str(directory / "managed" / "edited.yaml"),
        ],
    }
    programs = [bench.ours("managed", *arguments) for arguments in looking.values()]
    side_by_side(programs, 1)
    samples = dict(zip(looking, side_by_side(programs, runs), strict=True))
    rows = [Row(f"`{name}`, s", walls(found), SECONDS) for name, found in samples.items()]
    new = ["apply", "--out-dir", str(directory / "new"), str(directory / "managed" / "new.yaml")]
    for name, arguments in (
        ("apply, half differs", ["apply", str(directory / "managed" / "edited.yaml")]),
        ("apply, all new, a file each", new),
        ("revoke --role, all of them", ["revoke", "--role", "read-only", "--yes"]),
    ):
        rows.append(Row(f"`{name}`, s", walls([run(bench.ours("applied", *arguments))]), SECONDS))
    rows += [peak(name, samples[name]) for name in ("list --long", "check", "scan, 100 MB")]
    text = (
        "Each key has roles, labels and a description. The tree has some 10,000 files, a third of "
        "the text full of UUIDs that are no keys. The commands that change something run once, and "
        "write the keystore once."
    )
    return Section(f"The life of {bench.keys}", text, rows)
