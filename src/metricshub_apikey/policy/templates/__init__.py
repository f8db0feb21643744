"""The policy files that `apikey policy init` writes, comments and all."""

from __future__ import annotations

import re
from importlib.resources import files

NAMES = ("stock", "strict")
"""`stock` is `strict` with every rule switched off."""


def template(name: str) -> str:
    """Return the text of the policy file *name*, one of `NAMES`."""
    strict = files(__name__).joinpath("strict.toml").read_text("utf-8")
    return strict if name == "strict" else re.sub(r"(?m)^(?=[^#\n])", "#", strict)
