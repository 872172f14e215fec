"""Handlers of the routes that the models declare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from models.model import InvalidInputError, Route
from serving.http.body import parse_beside
from serving.http.errors import ErrorDetail, overloaded, unprocessable, validation_response
from serving.http.surrogates import replace_halves
from serving.http.uploads import routes_of
from serving.inference import context
from serving.inference.context import own_context
from serving.inference.errors import ModelFaultError, OverloadedError
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry

# How many files of many rows are read side by side; each takes a thread, and memory beyond its bytes.
UPLOADS_AT_A_TIME = 2


async def respond(predictor: Predictor, route: Route, request: Any, timeout_seconds: float) -> Response:
    """Answer a validated request; raise ModelFaultError when the model fails or its answer does not fit its schema."""
    infer = partial(predictor.infer, request=context.current.get() or own_context(timeout_seconds))
    try:
        answer = await route.handler(predictor.model, request, infer)
        content = answer.model_dump_json(exclude_unset=True)
    except InvalidInputError as error:
        return unprocessable([ErrorDetail(loc=list(error.location), msg=str(error), type=error.kind)])
    except OverloadedError as error:
        return overloaded(error.retry_after_seconds)
    except TimeoutError:
        raise
    except Exception as error:  # a ValidationError among them would be taken for the request's
        raise ModelFaultError(f"{predictor.name} failed to answer {route.name}") from error
    return Response(content, media_type="application/json")


def json_routes(
    names: Iterable[str], registry: Registry, timeout_seconds: float
) -> dict[str, Callable[[bytes], Awaitable[Response]]]:
    """Return the handlers of the models' routes that take JSON, by path.

    They answer as the API methods do, without the three quarters of the time that BentoML takes for it.
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
            return await respond(registry.get(name), route, request, timeout_seconds)

        return answer

    return {
        f"/{name}/{route.name}": answer_to(name, route)
        for name in names
        for route in routes_of(name)
        if not file_fields(route.request)
    }


def form_routes(
    names: Iterable[str], registry: Registry, timeout_seconds: float
) -> dict[str, Callable[[dict[str, Any]], Awaitable[Response]]]:
    """Return the handlers of the models' routes that take forms with files, by path."""
    slots = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    def answer_to(name: str, route: Route) -> Callable[[dict[str, Any]], Awaitable[Response]]:
        async def answer(fields: dict[str, Any]) -> Response:
            try:
                request = route.request.model_validate(fields)
            except ValidationError as error:
                return validation_response(error.errors(include_url=False, include_context=False, include_input=False))
            answering = respond(registry.get(name), route, request, timeout_seconds)
            return await (one_of(slots, answering) if route.upload else answering)

        return answer

    return {
        f"/{name}/{route.name}": answer_to(name, route)
        for name in names
        for route in routes_of(name)
        if file_fields(route.request)
    }


async def one_of(slots: asyncio.Semaphore, work: Coroutine[Any, Any, Response]) -> Response:
    """Wait for a free slot, then run `work` in it and return its result.

    The work keeps its slot until it ends: a thread that reads a file goes on when nobody waits for it any more.
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
    """Parse a JSON body into what a route's method takes; raise ValidationError when it does not fit."""
    if route.decode is None:
        return route.request.model_validate_json(body)
    return await parse_beside(route.decode, body)


def file_fields(schema: type[BaseModel]) -> frozenset[str]:
    """Return the names of a request's fields that are files or lists of files."""
    return frozenset(name for name, field in schema.model_fields.items() if is_file(field.annotation))


def is_file(annotation: Any) -> bool:
    """Return whether a type is that of a file or of a list of files."""
    if get_origin(annotation) in (list, Annotated):
        return is_file(get_args(annotation)[0])
    return annotation is Path
