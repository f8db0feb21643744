"""The policy files that `apikey policy init` writes, comments and all."""

from __future__ import annotations

import re
from importlib.resources import files

NAMES = ("stock", "strict")
"""`stock` is `strict` with every rule switched off."""


PREFIX = "metricshub_"


def template(name: str, prefix: str = PREFIX) -> str:
    """
    Return the text of a policy file.

    Args:
        name: One of `NAMES`.
        prefix: The beginning of new keys, checked.
    """
    strict = files(__name__).joinpath("strict.toml").read_text("utf-8")
    strict = strict.replace(f'prefix = "{PREFIX}"', f'prefix = "{prefix}"')
    return strict if name == "strict" else re.sub(r"(?m)^(?=[^#\n])", "#", strict)
