"""Answers as texts, as the query asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.testclient import TestClient

from serving.http.endpoints import Accepted
from tests.support.edge import App, edge_around, public_guards

ANSWER = {"Label": "tabby", "Score": 0.53764, "predictions": [{"label": "tabby", "score": 0.53764}]}


def client(response: Response) -> TestClient:
    """Return a client of a server that always answers with `response`, which may be a text, and caches it."""
    guards = public_guards(max_bytes=2**20)
    posted = guards.post("/picture", response, Accepted(100, cacheable=True), may_be_text=True)
    return TestClient(edge_around(App(), guards, accepted={}, routes=[posted]))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (ANSWER, r'"{\"Label\": \"tabby\", \"Score\": \"0.538\"}"'),
        ({"logits": [0.1, 2.0]}, '"OK"'),
    ],
)
def test_texts_and_numbers_are_sent_as_a_text(content: Mapping[str, Any], text: str) -> None:
    response = client(JSONResponse(content)).post("/picture?answer=text", content=b"{}")
    assert response.text == text
    assert response.headers["content-length"] == str(len(text))
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?answer=json", "?other=text"])
def test_answers_are_objects_otherwise(query: str) -> None:
    assert client(JSONResponse(ANSWER)).post(f"/picture{query}", content=b"{}").json() == ANSWER


def test_both_forms_come_from_one_cached_answer() -> None:
    asking = client(JSONResponse(ANSWER))
    forms = [asking.post(f"/picture?answer={form}", content=b"{}") for form in ("text", "json", "text")]
    assert [form.headers["x-cache"] for form in forms] == ["miss", "hit", "hit"]
    assert forms[0].text == forms[2].text
    assert forms[1].json() == ANSWER


@pytest.mark.parametrize("response", [JSONResponse({"error": "no"}, status_code=422), PlainTextResponse("text")])
def test_errors_and_what_is_no_object_stay_as_they_are(response: Response) -> None:
    found = client(response).post("/picture?answer=text", content=b"{}")
    assert (found.status_code, found.content) == (response.status_code, response.body)


@pytest.mark.parametrize("query", ["answer=xml", "answer=", "answer=text&answer=json", "answer=%FF"])
def test_another_form_is_refused(query: str) -> None:
    response = client(JSONResponse(ANSWER)).post(f"/picture?{query}", content=b"{}")
    assert response.status_code == 422
    assert response.json()["detail"] == [{"loc": ["query", "answer"], "msg": "must be json or text", "type": "enum"}]
