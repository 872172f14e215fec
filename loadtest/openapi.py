"""Discover from a server whether it is ready, its models, their labels and an example of their requests."""

from __future__ import annotations

import base64
import functools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest import inputs
from loadtest.inputs import Request
from loadtest.protocols import ENCODINGS, PREDICT, encoded, v2_path
from loadtest.tensors import Tensor

TIMEOUT_SECONDS = 10
SUFFIX = "/predict"
AUTHORITY_HINT = "give the certificate of an authority of your own by CA_FILE=FILE"


class ServerError(RuntimeError):
    """The server cannot be tested, or does not answer."""


@dataclass(frozen=True)
class ServedModels:
    """The requests of a server's models, by protocol and model, and their labels, by model."""

    requests: dict[str, dict[str, Callable[[int], Request]]]
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
    paths = document["paths"]
    names = [path.strip("/").removesuffix(SUFFIX) for path in paths if path.endswith(SUFFIX)]
    models = [name for name in names if "/" not in name and "{" not in name]  # not a single one of several versions
    infos = {model: json.loads(get(f"{address}/{model}/info", api_key, ca_file)) for model in models}
    labels = {model: info.get("labels") or [] for model, info in infos.items()}
    return ServedModels(requests_of(paths, models), labels)


def requests_of(paths: dict[str, Any], models: Sequence[str]) -> dict[str, dict[str, Callable[[int], Request]]]:
    """Return requests by protocol and model: with inputs of `loadtest.inputs`, or variations of the example in `paths`.

    `paths` are those of the OpenAPI document. A model that has neither is left out.
    """
    found: dict[str, dict[str, Callable[[int], Request]]] = {PREDICT: {}, **{protocol: {} for protocol in ENCODINGS}}
    for model in models:
        path = f"/{model}{SUFFIX}"
        if model in inputs.REQUESTS:
            found[PREDICT][model] = inputs.REQUESTS[model]
        elif example := example_of(paths, path):
            found[PREDICT][model] = functools.partial(varied_request, path, example)
        if example := example_of(paths, v2_path(model)):
            tensors = inputs.TENSORS.get(model, functools.partial(varied_tensors, example))
            for protocol in ENCODINGS:
                found[protocol][model] = encoded(protocol, model, tensors)
    return found


def example_of(paths: dict[str, Any], path: str) -> Any:
    """Return the example of a JSON request, or of its schema; None if there is none."""
    content = paths[path]["post"]["requestBody"]["content"].get(inputs.JSON, {}) if path in paths else {}
    return content.get("example") or content.get("schema", {}).get("example")


def varied_tensors(example: dict[str, Any], number: int) -> list[Tensor]:
    """Return the input tensors of an example in JSON, their elements varied."""
    return [
        Tensor(tensor["name"], tensor["datatype"], tuple(tensor["shape"]), elements(tensor, number))
        for tensor in example["inputs"]
    ]


def elements(tensor: dict[str, Any], number: int) -> Any:
    """Return the elements of an input in JSON, varied; those in Base64 decoded and as they are."""
    if tensor.get("parameters", {}).get("content_type") == "base64":
        return list(map(base64.b64decode, tensor["data"]))
    return varied(tensor["data"], number)


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
