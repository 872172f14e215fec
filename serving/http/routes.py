"""The API methods of BentoML for the routes that the models declare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import bentoml
from bentoml.exceptions import ServiceUnavailable
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError
from starlette.responses import Response

import models
from models.model import InvalidInputError, Route
from serving.http.body import parse_beside
from serving.http.errors import Problem, overloaded, unprocessable, validation_response
from serving.http.surrogates import replace_halves
from serving.inference import context
from serving.inference.batcher import OverloadedError
from serving.inference.context import own_context
from serving.inference.padding import ModelFaultError
from serving.inference.predictor import BLOCK_ROWS, Predictor
from serving.telemetry import tracing

# Files of many rows that are read side by side; each takes a thread, and memory beyond its bytes.
UPLOADS_AT_A_TIME = 2


class Answers:
    """What the API methods need of the service that they are part of."""

    predictors: dict[str, Predictor]


def api_methods(names: Iterable[str], timeout_seconds: float) -> dict[str, Any]:
    """API methods `<model>_<route>` and `<model>_infer` for each model, by name.

    They are declared for a class derived from Answers.
    """
    methods = {}
    for name in names:
        for route in models.find(name).routes():
            methods[f"{name}_{route.name}"] = route_method(name, route, timeout_seconds)
        methods[f"{name}_infer"] = infer_method(name, timeout_seconds)
    return methods


def route_method(name: str, route: Route, timeout_seconds: float) -> Any:
    """The API method of `POST /<model>/<route>`."""

    async def method(self: Answers, **fields: Any) -> Response:
        return await respond(self.predictors[name], route, route.request.model_construct(**fields), timeout_seconds)

    method.__name__ = f"{name}_{route.name}"
    method.__doc__ = route.summary
    return bentoml.api(method, route=f"/{name}/{route.name}", input_spec=route.request, output_spec=route.response)


async def respond(predictor: Predictor, route: Route, request: Any, timeout_seconds: float) -> Response:
    """Answer a validated request; raise ModelFaultError when the model fails, or its answer does not fit its schema."""
    infer = partial(predictor.infer, request=context.current.get() or own_context(timeout_seconds))
    try:
        answer: BaseModel = await getattr(predictor.model, route.name)(request, infer)
        content = answer.model_dump_json(exclude_unset=True)
    except InvalidInputError as error:
        return unprocessable([Problem(loc=list(error.location), msg=str(error), type=error.kind)])
    except OverloadedError as error:
        return overloaded(error.retry_after_seconds)
    except TimeoutError:
        raise
    except Exception as error:  # a ValidationError among them would be taken for one of the request
        raise ModelFaultError(f"{predictor.name} failed to answer {route.name}") from error
    return Response(content, media_type="application/json")


def json_routes(
    names: Iterable[str], predictors: Mapping[str, Predictor], timeout_seconds: float
) -> dict[str, Callable[[bytes], Awaitable[Response]]]:
    """Answers to the JSON bodies of the models' routes, by path.

    They give what the API methods give, without the three quarters of the time that BentoML takes for it.
    """

    def answer_to(name: str, route: Route) -> Callable[[bytes], Awaitable[Response]]:
        async def answer(body: bytes) -> Response:
            try:
                request = await decoded(route, body)
            except ValidationError as error:
                faults = error.errors(include_url=False, include_context=False, include_input=False)
                if faults[0]["type"] == "json_invalid":
                    whole = await parse_beside(replace_halves, body)
                    if whole != body:
                        return await answer(whole)
                return validation_response(faults)
            return await respond(predictors[name], route, request, timeout_seconds)

        return answer

    return {
        f"/{name}/{route.name}": answer_to(name, route)
        for name in names
        for route in models.find(name).routes()
        if not file_fields(route.request)
    }


def form_routes(
    names: Iterable[str], predictors: Mapping[str, Predictor], timeout_seconds: float
) -> dict[str, Callable[[dict[str, Any]], Awaitable[Response]]]:
    """Answers to the fields of forms that the models' routes with files take, by path."""
    slots = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    def answer_to(name: str, route: Route) -> Callable[[dict[str, Any]], Awaitable[Response]]:
        async def answer(fields: dict[str, Any]) -> Response:
            try:
                request = route.request.model_validate(fields)
            except ValidationError as error:
                return validation_response(error.errors(include_url=False, include_context=False, include_input=False))
            answering = respond(predictors[name], route, request, timeout_seconds)
            return await (one_of(slots, answering) if route.upload else answering)

        return answer

    return {
        f"/{name}/{route.name}": answer_to(name, route)
        for name in names
        for route in models.find(name).routes()
        if file_fields(route.request)
    }


async def one_of(slots: asyncio.Semaphore, work: Coroutine[Any, Any, Response]) -> Response:
    """Return what `work` returns, once there is a slot for it, which it has until it ends.

    A thread that reads a file goes on when nobody waits for it any more.
    """

    async def hold_slot() -> Response:
        try:
            return await work
        finally:
            slots.release()

    try:
        await slots.acquire()
    except asyncio.CancelledError:
        work.close()
        raise
    return await asyncio.shield(asyncio.create_task(hold_slot()))


async def decoded(route: Route, body: bytes) -> Any:
    """Return what a route's method takes for a JSON body; raise ValidationError."""
    if route.decode is None:
        return route.request.model_validate_json(body)
    return await parse_beside(route.decode, body)


def infer_body(name: str) -> Callable[[bytes], bytes]:
    """Return what makes of a JSON body of a model's infer what BentoML is to parse."""
    model = models.find(name)

    def rewrite(body: bytes) -> bytes:
        return model.without_unread(replace_halves(body))

    return rewrite


def infer_method(name: str, timeout_seconds: float) -> Any:
    """The API method of `POST /<model>/infer`, behind BentoML's own batching."""
    model = models.find(name)
    items = Annotated[list[model.input], Field(min_length=1, max_length=model.max_items), FailFast()]  # type: ignore[name-defined]
    example: dict[str, Any] = {} if model.input_example is None else {"example": {"items": [model.input_example]}}
    request = create_model(
        f"{model.__name__}Items",
        __config__=ConfigDict(json_schema_extra=example),
        __module__=__name__,
        items=(items, ...),
    )

    async def method(self: Answers, items: Any) -> Any:
        predictor = self.predictors[name]
        # These are the items of several requests; BentoML's task for them has the context of the first it ever had.
        context.current.set(None)
        try:
            with tracing.apart():
                # Of ten thousand rows, or of files, it takes long.
                slow = len(items) >= BLOCK_ROWS or model.input is Path
                convert = asyncio.to_thread(model.items, items) if slow else None
                converted = model.items(items) if convert is None else await convert
                outputs = await predictor.outputs(converted, own_context(timeout_seconds))
        except OverloadedError as error:
            raise ServiceUnavailable("overloaded") from error
        except TimeoutError:
            raise
        except Exception as error:
            raise ModelFaultError(f"{name} failed to answer infer") from error
        return [output if isinstance(output, InvalidInputError) else output.tolist() for output in outputs]

    method.__name__ = f"{name}_infer"
    method.__doc__ = f"The outputs of the graph of {name}, one per item."
    method.__annotations__["return"] = list[Output]
    return bentoml.api(
        method,
        route=f"/{name}/infer",
        input_spec=request,
        batchable=True,
        max_batch_size=model.max_items,
        max_latency_ms=int(timeout_seconds * 1000),
    )


def raise_invalid(output: Any) -> Any:
    """Refuse an output that is an error.

    A batch holds the items of several requests. An error raised for it would fail them all, one that
    stands in the place of an output fails only the request that this output belongs to.
    """
    if isinstance(output, InvalidInputError):
        raise PydanticCustomError(output.kind, str(output))
    return output


Output = Annotated[Any, AfterValidator(raise_invalid)]


def file_fields(schema: type[BaseModel]) -> frozenset[str]:
    """Names of a request's fields that are files or lists of files."""
    return frozenset(name for name, field in schema.model_fields.items() if is_file(field.annotation))


def is_file(annotation: Any) -> bool:
    """Whether a type is that of a file or of a list of files."""
    if get_origin(annotation) in (list, Annotated):
        return is_file(get_args(annotation)[0])
    return annotation is Path
