"""The routes other than predictions, tested without a server."""

from __future__ import annotations

from typing import Any

import bentoml
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serving.bento.api import InferenceApi, api_methods
from serving.bento.document import openapi_document
from serving.http.lifecycle import Lifecycle
from serving.http.openapi import complete
from serving.http.routes import accepted_bodies
from serving.http.system import system_routes
from serving.inference.registry import Registry
from tests.support.edge import edge_around, public_guards


def test_readiness_waits_for_the_models_and_liveness_does_not() -> None:
    lifecycle = Lifecycle()
    asked = TestClient(
        edge_around(Starlette(), public_guards(), routes=system_routes(lambda: lifecycle.ready, dict, dict))
    )
    response = asked.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"error": "the models are still loading, or the server is ending", "detail": []}
    assert asked.get("/livez").status_code == 200
    lifecycle.loaded = True
    assert asked.get("/readyz").status_code == 200


def documented(loaded: Registry, **options: Any) -> dict[str, Any]:
    """Return the OpenAPI document of a server with one model."""
    names = ["breast_cancer"]
    routes = type("Routes", (InferenceApi,), api_methods(names, 1.0))
    service = bentoml.service(routes, name="tiffin")
    accepted = accepted_bodies(names, 2**20, 2**20)
    return complete(openapi_document(service), names, loaded, accepted, **options)


@pytest.fixture(scope="module")
def secured() -> dict[str, Any]:
    """Return the OpenAPI document of a server that requires API keys."""
    return documented(Registry(), secured=True)


def test_either_way_to_send_a_key_admits(secured: dict[str, Any]) -> None:
    schemes = secured["components"]["securitySchemes"]
    assert {(found["type"], found.get("scheme"), found.get("name")) for found in schemes.values()} == {
        ("http", "bearer", None),
        ("apiKey", None, "X-API-Key"),
    }
    security = secured["paths"]["/breast_cancer/predict"]["post"]["security"]
    assert sorted(map(list, security)) == sorted([name] for name in schemes)


def test_only_the_models_routes_want_a_key(secured: dict[str, Any]) -> None:
    locked = {path for path, methods in secured["paths"].items() for found in methods.values() if found.get("security")}
    guarded = ("predict", "uploadfile", "preview", "explain", "infer", "info")
    assert locked == {f"/breast_cancer/{name}" for name in guarded}
    assert {"/health", "/livez", "/readyz", "/metrics"} < secured["paths"].keys()
    assert "security" not in secured


@pytest.mark.parametrize(("path", "method"), [("predict", "post"), ("infer", "post"), ("info", "get")])
def test_refusals_have_their_headers(secured: dict[str, Any], path: str, method: str) -> None:
    responses = secured["paths"][f"/breast_cancer/{path}"][method]["responses"]
    assert list(responses["401"]["headers"]) == ["WWW-Authenticate"]
    assert list(responses["429"]["headers"]) == [
        "Retry-After",
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
    ]
    assert "503" not in responses or list(responses["503"]["headers"]) == ["Retry-After"]
