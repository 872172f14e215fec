"""API keys, in front of a tiny app."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from limits import parse
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.guards import Guards
from serving.http.middleware.response_cache import StoredAnswer
from tests.support.clocks import Clock
from tests.support.edge import App


class TestKeys:
    @pytest.fixture
    def guards(self, clock: Clock) -> Guards:
        return Guards(
            ApiKeys(["secret"], None),
            None,
            MemoryCache("response", 2**20, 180, clock),
            BytesInFlight(2**24),
        )

    @pytest.mark.parametrize("headers", [{}, {"X-API-Key": "other"}, {"Authorization": "Basic secret"}])
    def test_a_request_without_a_valid_key_does_not_reach_the_app(
        self, client: TestClient, app: App, headers: dict[str, str]
    ) -> None:
        response = client.post("/count", content=b"{}", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert set(response.json()) == {"error", "detail"}
        assert app.reached == 0

    @pytest.mark.parametrize("headers", [{"X-API-Key": "secret"}, {"Authorization": "Bearer secret"}])
    def test_a_valid_key_admits(self, client: TestClient, headers: dict[str, str]) -> None:
        assert client.post("/count", content=b"{}", headers=headers).status_code == 200

    def test_a_known_answer_needs_a_key_too(self, client: TestClient) -> None:
        client.post("/count", content=b"{}", headers={"X-API-Key": "secret"})
        assert client.post("/count", content=b"{}").status_code == 401

    def test_what_is_known_of_a_model_needs_a_key(self, client: TestClient) -> None:
        assert client.get("/sum/info").status_code == 401

    def test_an_open_endpoint_needs_none(self, client: TestClient) -> None:
        assert client.get("/health").status_code == 200


class TestFailedKeys:
    """Guessed keys are limited per address, and never lock out a client with a valid one."""

    @pytest.fixture
    def guards(self, clock: Clock) -> Guards:
        answers: MemoryCache[StoredAnswer] = MemoryCache("response", 0, 0, clock)
        limit = RateLimit(parse("2/hour"), None, "test:")
        return Guards(
            ApiKeys(["one"], None),
            None,
            answers,
            BytesInFlight(2**24),
            failed_keys=limit,
            trusted_proxies=[ip_network("10.0.0.0/8")],
        )

    @pytest.fixture
    def ask(self, edge: ASGIApp) -> Callable[..., Any]:
        proxy = TestClient(edge, client=("10.0.0.1", 50_000))
        return lambda key, address="192.0.2.1": proxy.post(
            "/echo", content=b"{}", headers={"X-API-Key": key, "X-Forwarded-For": address}
        )

    def test_too_many_wrong_keys_are_429(self, ask: Callable[..., Any], app: App) -> None:
        responses = [ask(f"guess-{i}") for i in range(3)]
        assert [response.status_code for response in responses] == [401, 401, 429]
        assert [response.headers.get("www-authenticate") for response in responses] == ["Bearer", "Bearer", None]
        assert 0 < int(responses[-1].headers["retry-after"]) <= 3600
        assert responses[-1].json()["error"] == "at most 2 per 1 hour requests without a valid key are allowed"
        assert app.reached == 0

    def test_a_valid_key_is_admitted_all_the_same(self, ask: Callable[..., Any]) -> None:
        keys = ["guess"] * 3 + ["one"] * 5 + ["guess"]
        assert [ask(key).status_code for key in keys] == [401, 401, 429, 200, 200, 200, 200, 200, 429]

    def test_each_address_has_its_own(self, ask: Callable[..., Any]) -> None:
        addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.1, 192.0.2.2"]
        assert [ask("guess", address).status_code for address in addresses] == [401, 401, 401, 401, 429]
