"""Discover from a server whether it is ready, its models, their labels and an example of their requests."""

from __future__ import annotations

import functools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtest import inputs
from loadtest.inputs import Request

TIMEOUT_SECONDS = 10
PREDICT = "/predict"
AUTHORITY_HINT = "give the certificate of an authority of your own by CA_FILE=FILE"


class ServerError(RuntimeError):
    """The server cannot be tested, or does not answer."""


@dataclass(frozen=True)
class ServedModels:
    """The requests and labels of a server's models, by model."""

    requests: dict[str, Callable[[int], Request]]
    labels: dict[str, list[str]]


@functools.cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return the context that verifies servers: by the system's authorities and those of a PEM file, if one is given.

    Raises ServerError when the file holds no certificates.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ServerError(f"CA_FILE={ca_file} is no file of certificates: {error.strerror or error}") from error
    return context


def get(url: str, api_key: str = "", ca_file: str = "") -> bytes:
    """Return the body of a 200; raise ServerError for anything else."""
    try:
        request = urllib.request.Request(url, headers={"X-API-Key": api_key} if api_key else {})  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=tls_context(ca_file)) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url} answers {error.code}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            reason = f"certificate verify failed: {reason.verify_message}: {AUTHORITY_HINT}"
        raise ServerError(f"{url} does not answer: {reason}") from error


@functools.cache
def discover(address: str, api_key: str = "", ca_file: str = "") -> ServedModels:
    """Return the requests and labels of a server's models; raise ServerError if it is not ready."""
    get(f"{address}/readyz", api_key, ca_file)
    document = json.loads(get(f"{address}/docs.json", api_key, ca_file))
    requests = requests_of(document)
    infos = {model: json.loads(get(f"{address}/{model}/info", api_key, ca_file)) for model in requests}
    labels = {model: info.get("labels") or [] for model, info in infos.items()}
    return ServedModels(requests, labels)


def requests_of(document: dict[str, Any]) -> dict[str, Callable[[int], Request]]:
    """Return requests by model: those of `loadtest.inputs`, or variations of the example in the OpenAPI document."""
    found = {}
    for path, operations in document["paths"].items():
        model = path.removesuffix(PREDICT).strip("/")
        if path != f"/{model}{PREDICT}" or "{" in path:  # or of one of several versions
            continue
        content = operations["post"]["requestBody"]["content"].get(inputs.JSON, {})
        if model in inputs.REQUESTS:
            found[model] = inputs.REQUESTS[model]
        elif "example" in content:
            found[model] = functools.partial(varied_request, path, content["example"])
    return found


def varied_request(path: str, example: object, number: int) -> Request:
    """Return a request with the example, its numbers and strings varied."""
    return Request(path, inputs.JSON, json.dumps(varied(example, number)).encode())


def varied(example: object, number: int) -> object:
    """Return the example with decimal numbers changed by up to a tenth and strings ending in the request's number.

    Whole numbers stay as they are, since they are often counts and codes.
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
