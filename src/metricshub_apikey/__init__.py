"""
MetricsHub's API keys, in its own keystore.

    >>> from metricshub_apikey import ApiKeyRegistry, Keystore
    >>> registry = ApiKeyRegistry(Keystore("security/metricshub-keystore.p12"))
    >>> registry.create("mcp-openai").alias
    'mcp-openai'
    >>> [key.alias for key in registry.list()]
    ['mcp-openai']
    >>> registry.revoke("mcp-openai")
    ('mcp-openai',)

Everything raised on purpose is an `ApiKeyError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import ApiKeyError as ApiKeyError
    from .keys.api_key import ApiKey as ApiKey
    from .keystore.keystore import Keystore as Keystore
    from .registry.api_keys import ApiKeyRegistry as ApiKeyRegistry

_HOMES = {
    "ApiKey": "keys.api_key",
    "ApiKeyError": "errors",
    "ApiKeyRegistry": "registry.api_keys",
    "Keystore": "keystore.keystore",
}

__all__ = ["ApiKey", "ApiKeyError", "ApiKeyRegistry", "Keystore", "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name when it is used: `apikey --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
