"""Asking a server, and its answers."""

from __future__ import annotations

from typing import Any

import httpx


def classify(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    """Send a picture, and other fields of the form."""
    return client.post("/image/predict", files={"image_file": ("picture", content)}, data=fields)


def answer(response: httpx.Response) -> Any:
    """Return the JSON of an answer, which must be one of success."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()
