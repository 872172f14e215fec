"""The rate limit, in front of a tiny app."""

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


class TestRateLimit:
    @pytest.fixture
    def guards(self, clock: Clock) -> Guards:
        keys = ApiKeys(["one", "two"], None)
        return Guards(
            keys,
            RateLimit(parse("2/hour"), None, "test:"),
            MemoryCache("response", 2**20, 180, clock),
            BytesInFlight(2**24),
        )

    @pytest.fixture
    def ask(self, client: TestClient) -> Callable[[str], Any]:
        return lambda key: client.post("/echo", content=b"{}", headers={"X-API-Key": key})

    def test_an_answer_tells_how_much_is_left(self, ask: Callable[[str], Any]) -> None:
        headers = ask("one").headers
        assert (headers["ratelimit-limit"], headers["ratelimit-remaining"]) == ("2", "1")
        assert 0 < int(headers["ratelimit-reset"]) <= 3600
        assert "retry-after" not in headers

    def test_over_the_limit_is_429_and_does_not_reach_the_app(self, ask: Callable[[str], Any], app: App) -> None:
        responses = [ask("one") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert responses[-1].headers["ratelimit-remaining"] == "0"
        assert 0 < int(responses[-1].headers["retry-after"]) <= 3600
        assert set(responses[-1].json()) == {"error", "detail"}
        assert app.reached == 2

    def test_each_key_has_its_own(self, ask: Callable[[str], Any]) -> None:
        assert [ask(key).status_code for key in ("one", "one", "two")] == [200, 200, 200]

    def test_an_open_endpoint_has_none(self, client: TestClient) -> None:
        responses = [client.get("/health") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 200]
        assert "ratelimit-limit" not in responses[0].headers


class TestAddress:
    """The addresses that the rate limit counts by when there are no keys."""

    @pytest.fixture
    def guards(self, clock: Clock) -> Guards:
        answers: MemoryCache[StoredAnswer] = MemoryCache("response", 0, 0, clock)
        limit = RateLimit(parse("1/hour"), None, "test:")
        return Guards(
            ApiKeys([], None), limit, answers, BytesInFlight(2**24), trusted_proxies=[ip_network("10.0.0.0/8")]
        )

    @staticmethod
    def ask(edge: ASGIApp, peer: str, *forwarded: str) -> int:
        client = TestClient(edge, client=(peer, 50_000))
        headers = [("X-Forwarded-For", line) for line in forwarded]
        return client.post("/echo", content=b"{}", headers=headers).status_code

    def test_behind_a_trusted_proxy_it_is_the_client(self, edge: ASGIApp) -> None:
        asked = [self.ask(edge, "10.0.0.1", f"203.0.113.{i}", "192.0.2.1") for i in range(2)]
        assert [*asked, self.ask(edge, "10.0.0.2", "192.0.2.2")] == [200, 429, 200]

    def test_else_it_is_the_peer(self, edge: ASGIApp) -> None:
        assert [self.ask(edge, "127.0.0.1", f"192.0.2.{i}") for i in range(2)] == [200, 429]
