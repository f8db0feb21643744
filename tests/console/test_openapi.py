"""The OpenAPI document says what the routes do."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from metricshub_apikey.console import bodies, queries
from metricshub_apikey.console.api import ROUTES
from metricshub_apikey.keys.document import KEY_FIELDS

DOCUMENT: dict[str, Any] = json.loads(
    resources.files("metricshub_apikey.console").joinpath("openapi.json").read_text("utf-8")
)
METHODS = {"get", "post", "patch", "delete", "put"}


def test_it_has_all_routes_and_no_others() -> None:
    """Each path, each method."""
    said = {
        (path, method.upper())
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if method in METHODS
    }
    assert said == {
        ("/" + "/".join(path), method) for path, methods in ROUTES.items() for method in methods
    }


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [(p, m, o) for p, ms in DOCUMENT["paths"].items() for m, o in ms.items() if m in METHODS],
)
def test_each_operation_is_described(path: str, method: str, operation: dict[str, Any]) -> None:
    """Whether it needs a token, takes an Idempotency-Key, and what it answers."""
    route = ROUTES[tuple(path.split("/")[1:])][method.upper()]
    assert (route.verb is None) == (operation.get("security") == [])
    names = [one["name"] for one in operation.get("parameters", [])]
    assert route.replayed == ("Idempotency-Key" in names)
    assert operation["summary"]
    assert {"400", "421", "503"} <= set(operation["responses"])


def test_the_fields_are_the_program_s() -> None:
    """Of a key, of a body, of the list's query."""
    schemas = DOCUMENT["components"]["schemas"]
    assert list(schemas["Key"]["properties"]) == list(KEY_FIELDS)
    create = DOCUMENT["paths"]["/v1/keys"]["post"]["requestBody"]["content"]["application/json"]
    assert set(create["schema"]["properties"]) == {"alias", *bodies.FIELDS}
    listed = DOCUMENT["paths"]["/v1/keys"]["get"]["parameters"]
    assert {one["name"] for one in listed if one["in"] == "query"} == set(queries.LIST)
