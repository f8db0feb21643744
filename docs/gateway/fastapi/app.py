"""
A FastAPI application behind API keys, without a proxy.

    pip install 'metricshub-apikey[gateway]' fastapi
    uvicorn app:app

Another ASGI framework works alike: wrap the application.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from metricshub_apikey.gateway import ApiKeyMiddleware

app = FastAPI()
app.add_middleware(ApiKeyMiddleware, public=["GET /healthz"])


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer whoever watches over the application; this needs no key."""
    return {"status": "up"}


@app.get("/api/me")
def me(request: Request) -> dict[str, Any]:
    """Return whose key it was."""
    caller: dict[str, Any] = request.scope["apikey"]
    return caller
