"""The edge around a tiny app."""

from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient
from starlette.types import Message

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys
from serving.http.application import Guards
from serving.http.body import START_BYTES, BytesInFlight
from serving.http.lifecycle import Lifecycle
from tests.support.clocks import Clock
from tests.support.edge import App, edge_around, open_guards

LIMIT_SECONDS = 60.0
MADE_ID = re.compile("[0-9a-f]{32}")


@pytest.fixture
def guards(clock: Clock) -> Guards:
    return Guards(ApiKeys([], None), None, MemoryCache("response", 2**22, 180, clock), BytesInFlight(2**24))


class TestAdmission:
    def test_a_body_reaches_the_app_as_it_is(self, client: TestClient) -> None:
        assert client.post("/echo", content=b"x" * 100).content == b"x" * 100

    def test_the_system_answers_get_requests(self, client: TestClient) -> None:
        assert client.get("/health").text == "system"

    def test_head_is_admitted_where_get_is(self, client: TestClient) -> None:
        assert client.head("/health").status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/nowhere", b"", 404),
            ("GET", "/echo", b"", 405),
            ("POST", "/health", b"", 405),
            ("POST", "/echo", b"", 400),
            ("POST", "/echo", b"x" * 101, 413),
        ],
    )
    def test_what_cannot_succeed_does_not_reach_the_app(
        self, client: TestClient, app: App, method: str, path: str, body: bytes, status: int
    ) -> None:
        response = client.request(method, path, content=body)
        assert response.status_code == status
        assert set(response.json()) == {"error", "detail"}
        assert app.reached == 0

    def test_a_wrong_media_type_does_not_reach_the_app(self, client: TestClient, app: App) -> None:
        assert client.post("/echo", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
        assert app.reached == 0


class TestErrors:
    def test_an_exception_becomes_500_without_its_message(self, client: TestClient) -> None:
        response = client.post("/fail", content=b"{}")
        assert response.status_code == 500
        assert response.json() == {"error": "internal error", "detail": []}

    def test_a_refusal_by_the_schema_becomes_422_without_the_input(self, client: TestClient) -> None:
        response = client.post("/bad", content=b"{}")
        assert response.status_code == 422
        assert response.json()["detail"] == [{"loc": ["items", 2], "msg": "no", "type": "number"}]

    def test_an_error_keeps_its_status_and_retry_after(self, client: TestClient) -> None:
        response = client.post("/busy", content=b"{}")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "3"
        assert response.json() == {"error": "service unavailable", "detail": []}

    def test_what_takes_too_long_is_given_up_with_504(self, client: TestClient, app: App) -> None:
        response = client.post("/hang", content=b"{}")
        assert response.status_code == 504
        assert response.json() == {"error": "not answered within 0.2 seconds", "detail": []}
        assert app.given_up == 1


class TestRequestId:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/health"),
            ("GET", "/nowhere"),
            ("GET", "/echo"),
            ("POST", "/echo"),
            ("POST", "/bad"),
            ("POST", "/fail"),
            ("POST", "/hang"),
        ],
    )
    def test_every_answer_has_the_id_of_its_request(self, client: TestClient, method: str, path: str) -> None:
        response = client.request(method, path, content=b"{}", headers={"X-Request-ID": "abc-1"})
        assert response.headers["x-request-id"] == "abc-1"

    def test_the_app_knows_the_id(self, client: TestClient) -> None:
        assert client.post("/id", content=b"{}", headers={"X-Request-ID": "abc-1"}).text == "abc-1"

    def test_a_known_answer_has_the_id_of_its_own_request(self, client: TestClient) -> None:
        for name in ("first", "second"):
            response = client.post("/count", content=b"{}", headers={"X-Request-ID": name})
            assert response.headers.get_list("x-request-id") == [name]

    def test_each_request_without_an_id_gets_its_own(self, client: TestClient) -> None:
        first, second = (client.get("/health").headers["x-request-id"] for _ in range(2))
        assert MADE_ID.fullmatch(first)
        assert first != second

    @pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"caf\xc3\xa9", b'"quoted"', b"{}"])
    def test_a_bad_id_is_replaced(self, client: TestClient, given: bytes) -> None:
        response = client.get("/health", headers={b"X-Request-ID": given})
        assert MADE_ID.fullmatch(response.headers["x-request-id"])


class TestResponseCache:
    def test_an_equal_request_gets_the_same_answer(self, client: TestClient, clock: Clock) -> None:
        first = client.post("/count", content=b"{}")
        clock.now += 7.5
        second = client.post("/count", content=b"{}")
        assert (first.text, first.headers["x-cache"], first.headers.get("age")) == ("1", "miss", None)
        assert (second.text, second.headers["x-cache"], second.headers["age"]) == ("1", "hit", "7")
        assert second.headers["content-type"] == first.headers["content-type"]

    def test_an_answer_is_made_anew_after_its_time_to_live(self, client: TestClient, clock: Clock) -> None:
        client.post("/count", content=b"{}")
        clock.now += 180
        assert client.post("/count", content=b"{}").text == "2"

    def test_an_answer_is_as_old_as_its_oldest_part(self, client: TestClient, clock: Clock) -> None:
        first = client.post("/partial", content=b"{}")
        clock.now += 7
        second = client.post("/partial", content=b"{}")
        clock.now += 143
        assert (first.headers["x-cache"], first.headers["age"]) == ("partial", "30")
        assert (second.headers["x-cache"], second.headers["age"]) == ("hit", "37")
        assert client.post("/partial", content=b"{}").text == "2"

    @pytest.mark.parametrize(
        ("path", "body", "content_type"),
        [
            ("/count", b"{ }", "application/json"),
            ("/count-too", b"{}", "application/json"),
            ("/count", b"{}", "application/json; charset=utf-8"),
        ],
        ids=["body", "path", "content-type"],
    )
    def test_another_request_gets_an_answer_of_its_own(
        self, client: TestClient, path: str, body: bytes, content_type: str
    ) -> None:
        client.post("/count", content=b"{}", headers={"Content-Type": "application/json"})
        response = client.post(path, content=body, headers={"Content-Type": content_type})
        assert (response.text, response.headers["x-cache"]) == ("2", "miss")

    def test_with_no_cache_an_answer_is_made_anew_and_kept(self, client: TestClient) -> None:
        client.post("/count", content=b"{}")
        anew = client.post("/count", content=b"{}", headers={"Cache-Control": "max-age=0, No-Cache"})
        assert (anew.text, anew.headers["x-cache"]) == ("2", "miss")
        assert client.post("/count", content=b"{}").text == "2"

    def test_with_no_store_an_answer_is_made_anew_and_not_kept(self, client: TestClient) -> None:
        unkept = client.post("/count", content=b"{}", headers={"Cache-Control": "no-store"})
        assert (unkept.text, unkept.headers["x-cache"]) == ("1", "miss")
        assert client.post("/count", content=b"{}").text == "2"

    @pytest.mark.parametrize(("path", "status"), [("/bad", 422), ("/created", 201)])
    def test_only_what_is_answered_with_200_is_kept(self, client: TestClient, app: App, path: str, status: int) -> None:
        for count in (1, 2):
            assert client.post(path, content=b"{}").status_code == status
            assert app.reached == count

    def test_an_error_has_nothing_to_do_with_caches(self, client: TestClient) -> None:
        assert "x-cache" not in client.post("/bad", content=b"{}").headers

    def test_a_route_that_is_not_pure_is_always_asked(self, client: TestClient, app: App) -> None:
        for _ in range(2):
            assert "x-cache" not in client.post("/echo", content=b"{}").headers
        assert app.reached == 2

    def test_a_large_body_is_always_answered_anew(self, client: TestClient) -> None:
        texts = [client.post("/count", content=b"x" * (START_BYTES + 1)).text for _ in range(2)]
        assert texts == ["1", "2"]


async def never() -> Message:
    """A client that sends no more, and stays."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class TestLeaving:
    """Clients that close their connection, driven without one."""

    @staticmethod
    async def use(app: App, *messages: Message) -> list[int]:
        """The statuses that are sent to a client from which `messages` come."""
        coming = iter(messages)
        statuses: list[int] = []

        async def receive() -> Message:
            return next(coming)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        patience = 2 * LIMIT_SECONDS
        edge = edge_around(app, open_guards(), timeout_seconds=patience, body_timeout_seconds=patience)
        async with asyncio.timeout(LIMIT_SECONDS):
            await edge({"type": "http", "method": "POST", "path": "/hang", "headers": []}, receive, send)
        return statuses

    def test_what_a_client_does_not_wait_for_is_given_up(self, app: App) -> None:
        body, leaving = {"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}
        asyncio.run(self.use(app, body, leaving))
        assert (app.reached, app.given_up) == (1, 1)

    def test_half_a_body_does_not_reach_the_app(self, app: App) -> None:
        half, leaving = {"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}
        asyncio.run(self.use(app, half, leaving))
        assert app.reached == 0

    def test_a_body_that_does_not_come_is_the_clients_fault(self, app: App) -> None:
        async def use() -> list[int]:
            statuses: list[int] = []

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    assert (b"connection", b"close") in message["headers"]

            edge = edge_around(app, open_guards(), body_timeout_seconds=0.05)
            await edge({"type": "http", "method": "POST", "path": "/hang", "headers": []}, never, send)
            return statuses

        assert asyncio.run(use()) == [408]

    def test_an_answer_begins_all_the_same(self, app: App) -> None:
        # Until one does, BentoML keeps what belongs to the request, and the server does not end.
        assert asyncio.run(self.use(app, {"type": "http.disconnect"})) == [499]

    def test_a_client_that_leaves_is_counted(self, app: App) -> None:
        def counted() -> float:
            labels = {"route": "/hang", "status": "499", "cache": "none"}
            return REGISTRY.get_sample_value("tiffin_requests_total", labels) or 0

        before = counted()
        asyncio.run(self.use(app, {"type": "http.disconnect"}))
        assert counted() == before + 1


class TestDraining:
    def test_connections_are_not_kept(self, app: App) -> None:
        lifecycle = Lifecycle(loaded=True)
        client = TestClient(edge_around(app, open_guards(), lifecycle=lifecycle))
        assert "connection" not in client.post("/echo", content=b"{}").headers
        lifecycle.draining = True
        for path in ("/echo", "/nowhere"):
            assert client.post(path, content=b"{}").headers["connection"] == "close"
