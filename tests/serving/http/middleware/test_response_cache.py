"""Responses served from the cache."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys
from serving.http.body import START_BYTES, BytesInFlight
from serving.http.guards import Guards
from tests.support.clocks import Clock
from tests.support.edge import App


@pytest.fixture
def guards(clock: Clock) -> Guards:
    return Guards(ApiKeys([], None), None, MemoryCache("response", 2**22, 180, clock), BytesInFlight(2**24))


def test_an_equal_request_gets_the_same_answer(client: TestClient, clock: Clock) -> None:
    first = client.post("/count", content=b"{}")
    clock.now += 7.5
    second = client.post("/count", content=b"{}")
    assert (first.text, first.headers["x-cache"], first.headers.get("age")) == ("1", "miss", None)
    assert (second.text, second.headers["x-cache"], second.headers["age"]) == ("1", "hit", "7")
    assert second.headers["content-type"] == first.headers["content-type"]


def test_an_answer_is_made_anew_after_its_time_to_live(client: TestClient, clock: Clock) -> None:
    client.post("/count", content=b"{}")
    clock.now += 180
    assert client.post("/count", content=b"{}").text == "2"


def test_an_answer_is_as_old_as_its_oldest_part(client: TestClient, clock: Clock) -> None:
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
    client: TestClient, path: str, body: bytes, content_type: str
) -> None:
    client.post("/count", content=b"{}", headers={"Content-Type": "application/json"})
    response = client.post(path, content=body, headers={"Content-Type": content_type})
    assert (response.text, response.headers["x-cache"]) == ("2", "miss")


def test_with_no_cache_an_answer_is_made_anew_and_kept(client: TestClient) -> None:
    client.post("/count", content=b"{}")
    anew = client.post("/count", content=b"{}", headers={"Cache-Control": "max-age=0, No-Cache"})
    assert (anew.text, anew.headers["x-cache"]) == ("2", "miss")
    assert client.post("/count", content=b"{}").text == "2"


def test_with_no_store_an_answer_is_made_anew_and_not_kept(client: TestClient) -> None:
    unkept = client.post("/count", content=b"{}", headers={"Cache-Control": "no-store"})
    assert (unkept.text, unkept.headers["x-cache"]) == ("1", "miss")
    assert client.post("/count", content=b"{}").text == "2"


@pytest.mark.parametrize(("path", "status"), [("/bad", 422), ("/created", 201)])
def test_only_what_is_answered_with_200_is_kept(client: TestClient, app: App, path: str, status: int) -> None:
    for count in (1, 2):
        assert client.post(path, content=b"{}").status_code == status
        assert app.reached == count


def test_an_error_has_nothing_to_do_with_caches(client: TestClient) -> None:
    assert "x-cache" not in client.post("/bad", content=b"{}").headers


def test_a_route_that_is_not_pure_is_always_asked(client: TestClient, app: App) -> None:
    for _ in range(2):
        assert "x-cache" not in client.post("/echo", content=b"{}").headers
    assert app.reached == 2


def test_a_large_body_is_always_answered_anew(client: TestClient) -> None:
    texts = [client.post("/count", content=b"x" * (START_BYTES + 1)).text for _ in range(2)]
    assert texts == ["1", "2"]
