"""Send requests to a server and check its responses."""

from __future__ import annotations

from typing import Any

import httpx


def classify(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    """Upload a picture, with the other `fields` of the form, and return the response."""
    return client.post("/image/predict", files={"image_file": ("picture", content)}, data=fields)


def answer(response: httpx.Response) -> Any:
    """Return the JSON body of a response; fail unless its status is 200."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()
