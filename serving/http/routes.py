"""The routes that the models declare, each under the model's name and under that of each of its versions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import starlette.routing
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, create_model
from starlette.responses import Response
from starlette.types import ASGIApp

import models
from models.model import InvalidInputError, Route
from serving.explanations import ExplanationService
from serving.http.body import parse_beside
from serving.http.bounds import json_bound
from serving.http.endpoints import Accepted, FormEndpoint, JsonEndpoint
from serving.http.errors import response_to, validation_response
from serving.http.exchange import Exchange
from serving.http.explanations import ExplainRoute, explained
from serving.http.guards import Guards
from serving.http.surrogates import replace_halves
from serving.http.uploads import routes_of
from serving.inference import context
from serving.inference.context import own_context
from serving.inference.errors import ModelFaultError, OverloadedError
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry

Result = TypeVar("Result")
# Answers a validated request by the version of a model that the exchange has, or its default.
Responder = Callable[[Any, Exchange], Coroutine[Any, Any, Response]]

# How many files of many rows are read at a time; each takes a thread, and memory beyond its bytes.
UPLOADS_AT_A_TIME = 2
# The most fields of a form, besides the files of `infer`.
MAX_FIELDS = 100


async def respond(
    predictor: Predictor,
    route: Route,
    request: Any,
    timeout_seconds: float,
    explanations: ExplanationService,
    exchange: Exchange | None = None,
) -> Response:
    """Answer a validated request; raise ModelFaultError when the model fails or its answer does not fit its schema."""
    own = context.current.get() or own_context(timeout_seconds)
    try:
        if isinstance(route, ExplainRoute):
            return await explained(explanations, predictor, route, request, own, exchange)
        answer = await route.handler(predictor.model, request, partial(predictor.infer, request=own))
        content = answer.model_dump_json(exclude_unset=True)
    except (InvalidInputError, OverloadedError) as error:
        return response_to(error)  # raised, it would keep the body alive until garbage is collected
    except TimeoutError:
        raise
    except Exception as error:  # a ValidationError among them would be taken for the request's
        raise ModelFaultError(f"{predictor.name} failed to answer {route.name}") from error
    return Response(content, media_type="application/json")


def accepted_bodies(names: Iterable[str], max_body_bytes: int, max_upload_bytes: int) -> dict[str, Accepted]:
    """Return what the routes of the models accept, by path."""
    found = {}
    for name in names:
        for route in routes_of(name):
            files, bound = file_fields(route.request), json_bound(route.request)
            most = max_upload_bytes if route.upload else max_body_bytes
            most = route.max_body_bytes or (most if files else min(most, bound.max_bytes))
            found[f"/{name}/{route.name}"] = Accepted(most, bound.max_values, files, MAX_FIELDS, route.cacheable)
        schema = infer_request(name)
        files, bound = file_fields(schema), json_bound(schema)
        most = max_body_bytes if files else min(max_body_bytes, bound.max_bytes)
        parts = MAX_FIELDS + models.find(name).max_items
        found[f"/{name}/infer"] = Accepted(most, bound.max_values, files, parts, cacheable=True)
    return found


def infer_request(name: str) -> type[BaseModel]:
    """Return the schema of a model's `infer`."""
    model = models.find(name)
    items = Annotated[list[model.input], Field(min_length=1, max_length=model.max_items), FailFast()]  # type: ignore[name-defined]
    example: dict[str, Any] = {} if model.input_example is None else {"example": {"items": [model.input_example]}}
    schema: type[BaseModel] = create_model(
        f"{model.__name__}Items",
        __config__=ConfigDict(json_schema_extra=example),
        __module__=__name__,
        items=(items, ...),
    )
    return schema


def model_routes(
    names: Iterable[str],
    registry: Registry,
    accepted: Mapping[str, Accepted],
    guards: Guards,
    infer: Callable[[str], ASGIApp],
    timeout_seconds: float,
    explanations: ExplanationService,
) -> list[starlette.routing.Route]:
    """Return the POST routes of the models; `infer` makes the endpoint of a model's `infer`."""
    slots = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    def respond_to(name: str, route: Route) -> Responder:
        async def responder(request: Any, exchange: Exchange) -> Response:
            predictor = exchange.predictor or registry.get(name)
            return await respond(predictor, route, request, timeout_seconds, explanations, exchange)

        return responder

    found = []
    for model in names:
        endpoints = {
            route.name: endpoint_of(route, accepted[f"/{model}/{route.name}"], respond_to(model, route), slots)
            for route in routes_of(model)
        }
        for name, endpoint in {**endpoints, "infer": infer(model)}.items():
            path = f"/{model}/{name}"
            for written in (path, f"/{model}/versions/{{version}}/{name}"):
                found.append(
                    guards.post(
                        written,
                        endpoint,
                        accepted[path],
                        cached_as=path,
                        model=(registry, model),
                        may_be_text=may_be_text(name, accepted[path]),
                    )
                )
    return found


def may_be_text(route: str, accepted: Accepted) -> bool:
    """Return whether a route's answers may be texts: those of one file, small objects, which clients know as such."""
    return route == "predict" and bool(accepted.files)


def endpoint_of(route: Route, accepted: Accepted, responder: Responder, slots: asyncio.Semaphore) -> ASGIApp:
    """Return the endpoint of a route, whose requests `responder` answers; uploads wait for one of the `slots`."""
    if accepted.files:
        return FormEndpoint(accepted, form_answer(route, responder, slots))
    return JsonEndpoint(accepted, json_answer(route, responder))


def json_answer(route: Route, responder: Responder) -> Callable[[bytes, Exchange], Awaitable[Response]]:
    """Return a function that answers a JSON body by a model version, without the detour through BentoML."""

    async def answer(body: bytes, exchange: Exchange) -> Response:
        try:
            request = await decoded(route, body)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            if faults[0]["type"] == "json_invalid":
                whole = await parse_beside(replace_halves, body)
                if whole != body:
                    return await answer(whole, exchange)
            return validation_response(faults)
        return await responder(request, exchange)

    return answer


def form_answer(
    route: Route, responder: Responder, slots: asyncio.Semaphore
) -> Callable[[dict[str, Any], Exchange], Awaitable[Response]]:
    """Return a function that answers the fields of a form by a model version; uploads wait for one of the `slots`."""

    async def answer(fields: dict[str, Any], exchange: Exchange) -> Response:
        try:
            request = route.request.model_validate(fields)
        except ValidationError as error:
            return validation_response(error.errors(include_url=False, include_context=False, include_input=False))
        answering = responder(request, exchange)
        return await (one_of(slots, answering) if route.upload else answering)

    return answer


async def one_of(slots: asyncio.Semaphore, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for a free slot, then run `work` in it and return its result.

    Work that is cancelled keeps its slot until it ends: a thread that reads a file goes on when nobody waits for it.
    """

    async def hold_slot() -> Result:
        try:
            return await work
        finally:
            slots.release()

    try:
        await slots.acquire()
    except asyncio.CancelledError:
        work.close()
        raise
    holder = asyncio.create_task(hold_slot())
    try:
        return await asyncio.shield(holder)
    except asyncio.CancelledError:
        holder.cancel()
        raise
    finally:
        del holder  # it may hold an error, which holds this frame


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
