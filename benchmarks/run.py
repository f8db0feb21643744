"""
Measure how fast `apikey` is: against its floor, and against Java's own key store.

    .venv.test/bin/python benchmarks/run.py           writes results.md, takes some ten minutes
    .venv.test/bin/python benchmarks/run.py --quick   1,000 keys instead of 10,000, fewer runs

Only ratios of runs side by side mean anything on another machine; see README.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import FULL, HERE, LAUNCHER, PYTHON, QUICK, Bench, Plan, cpus, peak, walls
from lifecycle import managed_keys
from measure import FailedError, Sample, run, side_by_side
from report import Row, Section, at_least, at_most, ratios

BEST_COMPILER = ["-XX:TieredStopAtLevel=4"]  # overrides that of `stock.java_command`
A_KEY = "0d6a2f0e-5f6b-4c0c-9f0e-2b1f3a4c5d6e"


def compare(
    command: str, ours: Sequence[Sample], java: Sequence[Sample], times: float | None
) -> list[Row]:
    """Return three rows: ours, Java's, and how many times longer Java's takes."""
    ratio = ratios(walls(java), walls(ours))
    return [
        Row(f"`{command}`, s", walls(ours)),
        Row(f"Java: {command}, s", walls(java)),
        Row(f"Java / `{command}`", ratio, at_least(times) if times else None),
    ]


def require_lines(expected: int, *samples: Sample) -> None:
    """Check that all have listed the same keys, or the comparison means nothing."""
    for sample in samples:
        if sample.lines != expected:
            raise FailedError(f"{sample.lines} keys were listed instead of {expected}")


def two_keys(bench: Bench) -> Section:
    """Measure the start: `list` with two keys."""
    programs = [
        bench.ours("two", "list"),
        bench.floor(),
        bench.launched("two", "list"),
        bench.java("two", "apikeys"),
        bench.java("two", "apikeys", options=None),
    ]
    side_by_side(programs, 1)  # everybody's files are in memory from here on
    ours, floor, launched, java, plain = side_by_side(programs, bench.plan.short)
    require_lines(2, *ours, *launched, *java, *plain)
    overhead = [
        1000 * (with_it - without)
        for with_it, without in zip(walls(launched), walls(ours), strict=True)
    ]
    rows = compare("list", ours, plain, times=3)
    rows += [
        Row("Java / `list`, CPU time", ratios(cpus(plain), cpus(ours))),
        Row("Java with its best options / `list`", ratios(walls(java), walls(ours))),
    ]
    rows[1:1] = [
        Row("floor, s", walls(floor)),
        Row("`list` / floor", ratios(walls(ours), walls(floor)), at_most(1.3)),
        Row("`list` / floor, CPU time", ratios(cpus(ours), cpus(floor))),
        Row("`bin/apikey list` takes longer by, ms", overhead),
    ]
    text = (
        "The floor is `floor.py`: the same interpreter imports Click and the ciphers and derives "
        "two keys, no more. Java is `java Stock apikeys`; its best options are those that make it "
        "start quickest: a lean garbage collector, and only the compiler for short runs."
    )
    return Section("`list` with 2 keys", text, rows)


def many_keys_listed(bench: Bench) -> Section:
    """Measure `list` of many keys of ours; Java once, for it takes minutes."""
    java = run(bench.java("many", "apikeys", options=BEST_COMPILER))
    ours = [run(bench.ours("many", "list")) for _ in range(bench.plan.long)]
    require_lines(bench.plan.keys, java, *ours)
    rows = [
        Row("`list`, s", walls(ours), at_most(0.6)),
        Row("Java: list, s", [java.wall]),
        Row("Java / `list`", [java.wall / one.wall for one in ours], at_least(33)),
        Row("Java / `list`, CPU time", [java.cpu / one.cpu for one in ours]),
        peak("list", ours),
    ]
    text = (
        "Our keys share a salt, so one derivation opens them all; Java derives a key for each. "
        "The goal in seconds is for a machine where Java takes over 20 s; the ratio is the same "
        "goal for any machine. Java runs once, with its best compiler: where the machine does "
        "other things meanwhile, CPU time is the fairer comparison."
    )
    return Section(f"`list` with {bench.keys} of ours", text, rows)


def many_keys_changed(bench: Bench) -> Section:
    """Measure `create` and `revoke` among many keys; each side has a file of its own."""
    programs = [
        bench.ours("many", "create", "bench"),
        bench.java("many-java", "create", "bench", A_KEY, options=None),
        bench.ours("many", "revoke", "bench"),
        bench.java("many-java", "revoke", "bench", options=None),
        bench.java("many-java", "create", "bench", A_KEY),
        bench.java("many-java", "revoke", "bench"),
    ]
    side_by_side(programs, 1)
    created, java_created, revoked, java_revoked, best_created, best_revoked = side_by_side(
        programs, bench.plan.long
    )
    rows = [
        *compare("create", created, java_created, times=2),
        Row("Java with its best options / `create`", ratios(walls(best_created), walls(created))),
        peak("create", created),
        *compare("revoke", revoked, java_revoked, times=2),
        Row("Java with its best options / `revoke`", ratios(walls(best_revoked), walls(revoked))),
        peak("revoke", revoked),
    ]
    text = (
        "Ours locks, reads back what it is about to write, replaces the file in one step and waits "
        "for the disk; Java overwrites it in place and does not wait."
    )
    return Section(f"`create` and `revoke` among {bench.keys}", text, rows)


def foreign_keys_listed(bench: Bench) -> Section:
    """Measure `list` of keys that Java wrote: one derivation each."""
    ours = [run(bench.ours("foreign", "list")) for _ in range(bench.plan.derivations)]
    require_lines(bench.plan.keys, *ours)
    used = ratios(cpus(ours), walls(ours))
    rows = [
        Row("`list`, s", walls(ours)),
        Row("`list`, CPU s", cpus(ours)),
        Row(f"CPU time / time on the clock, of {os.cpu_count()} cores", used),
        peak("list", ours),
    ]
    text = (
        "One derivation for each key, on all cores. On a terminal a progress bar appears after a "
        "second; it is not measured."
    )
    return Section(f"`list` with {bench.keys} that Java wrote", text, rows)


def old_keystore(bench: Bench) -> Section:
    """Measure `list` of a mixed keystore."""
    programs = [bench.ours("old", "list"), bench.java("old", "apikeys")]
    side_by_side(programs, 1)
    ours, java = side_by_side(programs, bench.plan.short)
    require_lines(1, *ours, *java)
    text = "`tests/vectors/legacy-2021.p12`, with 3DES and a SHA-1 seal, and a key added to it."
    rows = compare("list", ours, java, times=None)
    return Section("`list` of a keystore from 2021", text, rows)


MEASUREMENTS = [
    two_keys,
    old_keystore,
    many_keys_changed,
    many_keys_listed,
    managed_keys,
    foreign_keys_listed,
]


def heading(bench: Bench, plan: Plan) -> str:
    """Return what the numbers depend on."""
    version = subprocess.run(
        bench.java("two", "version").command, capture_output=True, text=True, check=True
    )
    python = subprocess.run([str(PYTHON), "-V"], capture_output=True, text=True, check=True)
    scale = "" if plan is FULL else "\nA quick run: the goals are meant for 10,000 keys.\n"
    return (
        "# Results\n\n"
        "Written by `run.py`; README.md says how to read it.\n"
        f"{scale}\n"
        f"- {time.strftime('%Y-%m-%d', time.gmtime())}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the first run\n"
        f"- {python.stdout.strip()}, Java {version.stdout.strip()}\n"
    )


def measure(plan: Plan) -> Iterator[str]:
    """Yield the heading and the sections, as they are ready."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), plan)
        yield heading(bench, plan)
        for measurement in MEASUREMENTS:
            yield str(measurement(bench))


def main() -> int:
    """Parse the command line, measure, print the results and keep those of a full run."""
    parser = argparse.ArgumentParser(description="Measure how fast apikey is.")
    parser.add_argument("--quick", action="store_true", help="1,000 keys, fewer runs, no file")
    quick = parser.parse_args().quick
    subprocess.run([str(LAUNCHER), "--version"], check=True, stdout=subprocess.DEVNULL)
    parts = []
    try:
        for part in measure(QUICK if quick else FULL):
            print(part, flush=True)
            parts.append(part)
    except FailedError as error:
        print(error, file=sys.stderr)
        return 1
    if not quick:
        (HERE / "results.md").write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
