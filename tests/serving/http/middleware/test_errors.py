"""Errors of the app and of BentoML, as clients see them."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serving.http.guards import Guards
from tests.support.edge import App, public_guards


@pytest.fixture
def guards() -> Guards:
    return public_guards(max_bytes=2**22)


def test_an_exception_becomes_500_without_its_message(client: TestClient) -> None:
    response = client.post("/fail", content=b"{}")
    assert response.status_code == 500
    assert response.json() == {"error": "internal error", "detail": []}


def test_a_refusal_by_the_schema_becomes_422_without_the_input(client: TestClient) -> None:
    response = client.post("/bad", content=b"{}")
    assert response.status_code == 422
    assert response.json()["detail"] == [{"loc": ["items", 2], "msg": "no", "type": "number"}]


def test_an_error_keeps_its_status_and_retry_after(client: TestClient) -> None:
    response = client.post("/busy", content=b"{}")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert response.json() == {"error": "service unavailable", "detail": []}


def test_what_takes_too_long_is_given_up_with_504(client: TestClient, app: App) -> None:
    response = client.post("/hang", content=b"{}")
    assert response.status_code == 504
    assert response.json() == {"error": "not answered within 0.2 seconds", "detail": []}
    assert app.given_up == 1
