"""The routes that are no predictions, without a server."""

from __future__ import annotations

from starlette.testclient import TestClient

from serving.system import system_app


def test_readiness_waits_for_the_models_and_liveness_does_not() -> None:
    ready = False
    client = TestClient(system_app({}, [], lambda: ready, dict))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"error": "the models are still loading, or the server is ending", "detail": []}
    assert client.get("/livez").status_code == 200
    ready = True
    assert client.get("/readyz").status_code == 200
