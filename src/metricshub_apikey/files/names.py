"""File names that Windows takes for something else."""

from __future__ import annotations

import ntpath
import re

DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?: *\..*| *)", re.IGNORECASE
)
FORBIDDEN = re.compile(r'[\x00-\x1f<>"|?*]')


def is_device(name: str) -> bool:
    """Return whether Windows takes *name*, without a folder, for that of a device: `nul.txt`."""
    return DEVICE.fullmatch(name) is not None


def odd_on_windows(path: str) -> str | None:
    """Return why Windows would make another file than *path*, or none; None where it would not."""
    tail = ntpath.splitdrive(path)[1]
    name = ntpath.basename(tail)
    if is_device(name):
        return "that is the name of a device"
    if name.endswith((".", " ")):
        return "its name ends with a dot or a space"
    if ":" in tail:
        return "its name has a colon in it"
    if FORBIDDEN.search(tail):
        return 'its name has a control character or one of < > " | ? * in it'
    return None
