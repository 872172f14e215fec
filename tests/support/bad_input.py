"""Shared by tests of bad input: routes, malformed bodies, and a check of error responses."""

from __future__ import annotations

from typing import Any

import httpx

JSON = {"content-type": "application/json"}
NESTED = "[" * 100_000 + "]" * 100_000
JSON_ROUTES = ["/sentiment/predict", "/breast_cancer/predict", "/segmentation/predict", "/sentiment/infer"]
FORM_ROUTES = ["/image/predict", "/image/infer", "/segmentation/uploadfile"]


def error_details(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    """Check that a response is a well-formed error with this status; return its detail entries."""
    assert response.status_code == status, response.text[:500]
    body = response.json()
    assert set(body) == {"error", "detail"}
    assert body["error"]
    for entry in body["detail"]:
        assert set(entry) == {"loc", "msg", "type"}
    assert len(response.content) < 20_000, "an error must not echo a whole body"
    return list(body["detail"])
