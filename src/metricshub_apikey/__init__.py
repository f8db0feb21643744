"""
MetricsHub's API keys, in its own keystore.

    >>> from metricshub_apikey import ApiKeys
    >>> keys = ApiKeys("security/metricshub-keystore.p12")
    >>> keys.create("mcp-openai").alias
    'mcp-openai'
    >>> [key.alias for key in keys]
    ['mcp-openai']
    >>> keys.revoke("mcp-openai").aliases
    ('mcp-openai',)

Everything raised on purpose is an `ApiKeyError`. What `__all__` names is public; all else is
private and may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import AccessDeniedError as AccessDeniedError
    from .errors import ActivityError as ActivityError
    from .errors import ApiKeyError as ApiKeyError
    from .errors import DamagedError as DamagedError
    from .errors import EntryUnreadableError as EntryUnreadableError
    from .errors import ExpiryInPastError as ExpiryInPastError
    from .errors import InvalidArgumentError as InvalidArgumentError
    from .errors import KeyExistsError as KeyExistsError
    from .errors import KeyNotFoundError as KeyNotFoundError
    from .errors import KeystoreBusyError as KeystoreBusyError
    from .errors import KeystoreError as KeystoreError
    from .errors import NotConfirmedError as NotConfirmedError
    from .errors import NotRotatedError as NotRotatedError
    from .errors import PasswordError as PasswordError
    from .errors import PolicyBreachError as PolicyBreachError
    from .errors import PolicyError as PolicyError
    from .errors import ReadFailedError as ReadFailedError
    from .errors import RotationPendingError as RotationPendingError
    from .errors import WriteFailedError as WriteFailedError
    from .gateway.middleware import ApiKeyMiddleware as ApiKeyMiddleware
    from .keys.api_key import ApiKey as ApiKey
    from .policy.rules import Policy as Policy
    from .registry.api_keys import ApiKeys as ApiKeys
    from .registry.rotation import Rotation as Rotation
    from .registry.verification import Verdict as Verdict
    from .secret import Secret as Secret

_HOMES = {
    "AccessDeniedError": "errors",
    "ActivityError": "errors",
    "ApiKey": "keys.api_key",
    "ApiKeyError": "errors",
    "ApiKeyMiddleware": "gateway.middleware",
    "ApiKeys": "registry.api_keys",
    "DamagedError": "errors",
    "EntryUnreadableError": "errors",
    "ExpiryInPastError": "errors",
    "InvalidArgumentError": "errors",
    "KeyExistsError": "errors",
    "KeyNotFoundError": "errors",
    "KeystoreBusyError": "errors",
    "KeystoreError": "errors",
    "NotConfirmedError": "errors",
    "NotRotatedError": "errors",
    "PasswordError": "errors",
    "Policy": "policy.rules",
    "PolicyBreachError": "errors",
    "PolicyError": "errors",
    "ReadFailedError": "errors",
    "Rotation": "registry.rotation",
    "RotationPendingError": "errors",
    "Secret": "secret",
    "Verdict": "registry.verification",
    "WriteFailedError": "errors",
}

__all__ = [
    "AccessDeniedError",
    "ActivityError",
    "ApiKey",
    "ApiKeyError",
    "ApiKeyMiddleware",
    "ApiKeys",
    "DamagedError",
    "EntryUnreadableError",
    "ExpiryInPastError",
    "InvalidArgumentError",
    "KeyExistsError",
    "KeyNotFoundError",
    "KeystoreBusyError",
    "KeystoreError",
    "NotConfirmedError",
    "NotRotatedError",
    "PasswordError",
    "Policy",
    "PolicyBreachError",
    "PolicyError",
    "ReadFailedError",
    "Rotation",
    "RotationPendingError",
    "Secret",
    "Verdict",
    "WriteFailedError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is used: `apikey --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
