"""
The gateway, an optional extra: it decides whether an HTTP request with an API key may pass.

    from metricshub_apikey.gateway import ApiKeyMiddleware

    app = ApiKeyMiddleware(app, keystore="metricshub-keystore.p12")

`apikey serve` answers the same question for nginx, Caddy, Traefik and Envoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .middleware import ApiKeyMiddleware as ApiKeyMiddleware

__all__ = ["ApiKeyMiddleware"]


def __getattr__(name: str) -> object:
    """Import the public name when it is used."""
    if name != "ApiKeyMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .middleware import ApiKeyMiddleware

    return ApiKeyMiddleware
