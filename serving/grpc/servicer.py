"""The methods of the Open Inference Protocol over gRPC."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import grpc
from grpc.aio import ServicerContext

from serving.grpc.calls import Calls, Rpc
from serving.grpc.conversion import RawContents, request_of, response_of
from serving.grpc.errors import CallError
from serving.grpc.forms import Forms, request_of_form
from serving.grpc.held import Held, too_large
from serving.grpc.messages import METHODS, SERVICE, STREAM, request_class, response_class
from serving.grpc.wire import check_values, outline, parse
from serving.http.body import SMALL_BODY_BYTES, START_BYTES
from serving.http.endpoints import Accepted
from serving.http.exchange import Exchange
from serving.http.lifecycle import Lifecycle
from serving.http.v2.routes import REQUEST_BYTES, infer_path
from serving.inference.errors import UnknownModelError
from serving.inference.predictor import Predictor
from serving.oip import metadata
from serving.oip.repository import Repository, version_of
from serving.oip.requests import InferRequest
from serving.oip.service import TensorInference

# The methods that need no key and count for no limit: probes, and what the server is.
PUBLIC = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata"}
INFER = "ModelInfer"
InferRequestMessage = request_class(INFER)
StreamResponse = response_class(STREAM)
Parsed = tuple[InferRequest, bool, Predictor]


class Servicer:
    """Answers the methods of the protocol by the engine; `names` are the models that are served.

    `accepted` says what inference by each accepts, by the path that it has over HTTP. `version` returns the server's.
    """

    def __init__(
        self,
        names: Sequence[str],
        inference: TensorInference,
        repository: Repository,
        accepted: Mapping[str, Accepted],
        lifecycle: Lifecycle,
        version: Callable[[], str],
    ) -> None:
        self.inference = inference
        self.registry = inference.registry
        self.repository = repository
        self.accepted = {name: accepted[infer_path(name)] for name in names}
        self.lifecycle = lifecycle
        self.version = version
        self.forms = Forms()
        # One at a time, since a large request takes several times its bytes while it is parsed.
        self.parsing = asyncio.Lock()

    @property
    def max_message_bytes(self) -> int:
        """The most bytes that a message may have, whichever model it is for."""
        return max(REQUEST_BYTES, *(accepted.max_body_bytes for accepted in self.accepted.values()))

    def handlers(self, calls: Calls, idle_seconds: float) -> grpc.GenericRpcHandler:
        """Return the handlers of all methods; a stream ends where no message comes for `idle_seconds`."""
        answers: dict[str, Callable[[Any, Exchange], Awaitable[Any]]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_load,
            "RepositoryModelUnload": self.repository_unload,
        }
        rpcs = [self.inferring(INFER) if method == INFER else answering(method, answers[method]) for method in METHODS]
        handlers = {rpc.path.rpartition("/")[2]: calls.unary_handler(rpc) for rpc in rpcs}
        streamed = self.inferring(STREAM, wrap=lambda response: StreamResponse(infer_response=response))

        async def stream(_: Any, context: ServicerContext) -> None:
            await calls.stream(streamed, context, idle_seconds, lambda text: StreamResponse(error_message=text))

        handlers[STREAM] = grpc.stream_stream_rpc_method_handler(stream)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def inferring(self, method: str, wrap: Callable[[Any], Any] = lambda response: response) -> Rpc:
        """Return a method of inference, whose responses stand in what `wrap` returns."""

        async def answer(held: Held, exchange: Exchange) -> Any:
            return wrap(await self.infer(held, exchange))

        return Rpc(f"/{SERVICE}/{method}", answer, traced=True)

    async def infer(self, held: Held, exchange: Exchange) -> Any:
        """Return the ModelInferResponse to a ModelInferRequest."""
        message = held.pop(self.max_message_bytes)
        if len(message) <= SMALL_BODY_BYTES:
            request, is_raw, predictor = self.small_request(message, exchange)
        elif len(message) <= START_BYTES:
            request, is_raw, predictor = await asyncio.to_thread(self.large_request, message, exchange)
        else:
            async with self.parsing:
                request, is_raw, predictor = await asyncio.to_thread(self.large_request, message, exchange)
        del message
        answer = await self.inference.infer(predictor, request, exchange.context)
        exchange.note_caches()
        return response_of(answer, request.id, raw=is_raw)

    def small_request(self, message: bytes, exchange: Exchange) -> Parsed:
        """Return the request in a small message, of which a part may be known."""
        form = self.forms.find(message)
        if form is not None:
            predictor = self.predictor(form.model_name, form.model_version, exchange)
            if type(predictor.model) is form.model:
                return request_of_form(form, message), True, predictor
        parsed = parse(InferRequestMessage, message)
        request, is_raw, predictor = self.request(parsed, parsed.raw_input_contents, exchange)
        if is_raw:
            self.forms.remember(message, parsed, request, type(predictor.model))
        return request, is_raw, predictor

    def large_request(self, message: bytes, exchange: Exchange) -> Parsed:
        """Return the request in a large message, which is bounded before it is parsed."""
        parts = outline(message)
        accepted = self.accepted.get(parts.model)
        if accepted is None:
            raise unknown(parts.model)
        exchange.model = parts.model
        if len(message) > accepted.max_body_bytes:
            raise too_large(accepted.max_body_bytes)
        check_values(parts.inputs, accepted.max_values)
        parsed = parse(InferRequestMessage, parts.head)
        if sum(abs(math.prod(entry.shape)) for entry in parsed.inputs) > accepted.max_values:
            raise too_large(accepted.max_values, "elements")
        return self.request(parsed, parts.raw, exchange)

    def request(self, parsed: Any, raw: RawContents, exchange: Exchange) -> Parsed:
        """Return the request in a ModelInferRequest, whether its contents are raw, and the predictor that is asked."""
        predictor = self.predictor(parsed.model_name, parsed.model_version, exchange)
        return request_of(parsed, raw, type(predictor.model)), bool(raw), predictor

    def predictor(self, name: str, version: str, exchange: Exchange | None = None) -> Predictor:
        """Return the predictor of a version of a model, by default of the default one; note it in the exchange.

        Raises UnknownModelError, or CallError while the models are loading.
        """
        if name not in self.accepted:
            raise unknown(name)
        if exchange is not None:
            exchange.model = name
        if not self.lifecycle.loaded:
            text = "the models are still loading"
            raise CallError(grpc.StatusCode.UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE, text)
        found = self.registry.get(name, version or None)
        if exchange is not None:
            exchange.note_predictor(found)
        return found

    async def server_live(self, *_: Any) -> Mapping[str, Any]:
        """Say that the server is alive."""
        return {"live": True}

    async def server_ready(self, *_: Any) -> Mapping[str, Any]:
        """Say whether the server takes requests."""
        return {"ready": self.lifecycle.ready}

    async def model_ready(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Say whether a model can answer; raise UnknownModelError where there is none."""
        name = request.name
        if name in self.accepted and not self.registry.versions(name):
            return {"ready": False}
        return {"ready": bool(self.predictor(name, request.version)) and self.lifecycle.ready}

    async def server_metadata(self, *_: Any) -> Mapping[str, Any]:
        """Tell name, version and extensions of the server."""
        return metadata.server_metadata(self.version())

    async def model_metadata(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Tell versions, inputs and outputs of a model."""
        return metadata.model_metadata(self.registry, self.predictor(request.name, request.version))

    async def model_config(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Tell Triton's configuration of a model."""
        return {"config": metadata.model_config(self.predictor(request.name, request.version))}

    async def model_statistics(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Tell Triton's statistics of a version of a model, of all its versions, or of all models."""
        asked = self.predictor(request.name, request.version) if request.name else None
        every = not request.version
        return await asyncio.to_thread(metadata.statistics, self.registry, asked, all_versions=every)

    async def repository_index(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Tell the versions of the models in the store, and which are loaded."""
        return {"models": await self.repository.index(ready=request.ready)}

    async def repository_load(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Load a version of a model."""
        await self.repository.load(*model_and_version(request))
        return {}

    async def repository_unload(self, request: Any, _: Exchange) -> Mapping[str, Any]:
        """Unload a version of a model."""
        await self.repository.unload(*model_and_version(request))
        return {}


def unknown(name: str) -> UnknownModelError:
    """Return the error of a name that no model has."""
    return UnknownModelError(f"no model {name[:100]}")


def answering(method: str, answer: Callable[[Any, Exchange], Awaitable[Mapping[str, Any]]]) -> Rpc:
    """Return a method whose `answer` is given the parsed request and returns the fields of the response."""
    request, response = request_class(method), response_class(method)

    async def answer_message(held: Held, exchange: Exchange) -> Any:
        return response(**await answer(parse(request, held.pop(REQUEST_BYTES)), exchange))

    return Rpc(f"/{SERVICE}/{method}", answer_message, public=method in PUBLIC)


def model_and_version(request: Any) -> tuple[str, str | None]:
    """Return model and version, if any, in a request to load or unload; KServe's has the name in another field."""
    parameters = {
        name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
        for name, parameter in request.parameters.items()
    }
    return request.model_name or request.repository_name, version_of(parameters)
