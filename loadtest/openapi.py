"""What a server tells of itself: whether it is ready, its models, their labels and an example of their requests."""

from __future__ import annotations

import functools
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtest import inputs
from loadtest.inputs import Request

TIMEOUT_SECONDS = 10
PREDICT = "/predict"


class ServerError(RuntimeError):
    """A server that cannot be tested."""


@dataclass(frozen=True)
class Server:
    """The requests and the labels of each model, by the model's name."""

    requests: dict[str, Callable[[int], Request]]
    labels: dict[str, list[str]]


def get(url: str, api_key: str) -> bytes:
    """The body of a 200; ServerError otherwise."""
    try:
        request = urllib.request.Request(url, headers={"X-API-Key": api_key} if api_key else {})  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url} answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise ServerError(f"{url} does not answer: {getattr(error, 'reason', error)}") from error


@functools.cache
def look_at(address: str, api_key: str = "") -> Server:
    """What the server at this address has; ServerError when it is not ready."""
    get(f"{address}/readyz", api_key)
    document = json.loads(get(f"{address}/docs.json", api_key))
    requests = requests_of(document)
    infos = {model: json.loads(get(f"{address}/{model}/info", api_key)) for model in requests}
    labels = {model: info.get("labels") or [] for model, info in infos.items()}
    return Server(requests, labels)


def requests_of(document: dict[str, Any]) -> dict[str, Callable[[int], Request]]:
    """Requests by model: those of `loadtest.inputs`, for other models the example of the OpenAPI document, varied."""
    found = {}
    for path, operations in document["paths"].items():
        model = path.removesuffix(PREDICT).strip("/")
        if path != f"/{model}{PREDICT}":
            continue
        content = operations["post"]["requestBody"]["content"].get(inputs.JSON, {})
        if model in inputs.REQUESTS:
            found[model] = inputs.REQUESTS[model]
        elif "example" in content:
            found[model] = functools.partial(varied_request, path, content["example"])
    return found


def varied_request(path: str, example: object, number: int) -> Request:
    """The example with its numbers and strings varied."""
    return Request(path, inputs.JSON, json.dumps(varied(example, number)).encode())


def varied(example: object, number: int) -> object:
    """The same form, in which decimal numbers differ by up to a tenth and strings end in the request's number.

    Whole numbers stay, since they are often counts and codes.
    """
    draw = inputs.rng(number)

    def vary(value: object) -> object:
        match value:
            case dict():
                return {name: vary(part) for name, part in value.items()}
            case list():
                return [vary(part) for part in value]
            case float():
                return value * draw.uniform(0.9, 1.1)
            case str():
                return f"{value} {number}"
        return value

    return vary(example)
