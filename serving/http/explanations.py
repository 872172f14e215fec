"""`POST /<model>/explain`: the body of `predict` with one item, answered with what each part of it contributed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, create_model
from starlette.responses import Response

from models.model import Array, InvalidInputError, Model, Route
from serving.explanations import Explanation, ExplanationService, kind_of
from serving.explanations.pictures import heat_map
from serving.http.exchange import Exchange
from serving.inference.context import RequestContext
from serving.inference.predictor import Predictor
from serving.threads import to_its_end

PNG = "image/png"
SUMMARIES = {
    "span": "Explain the answer to one text: what each word contributed.",
    "box": "Explain the answer to one picture: what each part contributed; as a heat map with `Accept: image/png`.",
    "name": "Explain the answer to one row: what each column contributed.",
}
# Of the parts of an item, by kind: the type, the description, and an example.
PARTS: dict[str, tuple[Any, str, Any]] = {
    "span": (tuple[int, int], "start and end of a word in the text, in characters", [2, 9]),
    "box": (
        tuple[float, float, float, float],
        "left, top, right and bottom of a part of the picture, in pixels",
        [0.0, 0.0, 4.0, 4.0],
    ),
    "name": (str, "name of a column, or of a variable of a linear model", "area_worst"),
}


@dataclass(frozen=True)
class ExplainRoute(Route):
    """The route that explains one answer of a model's predict, by whose handler it is answered first.

    `items_field` is the field of the request that lists items, None where the request is one itself.
    """

    items_field: str | None = None

    def element(self, request: BaseModel) -> Any:
        """Return the only item of a request, as it was sent."""
        return getattr(request, self.items_field)[0] if self.items_field else request


@cache
def explain_route(model: type[Model[Any]]) -> ExplainRoute:
    """Return the route that explains the answers of a model."""
    predict = next(route for route in model.routes() if route.name == "predict")
    fields = predict.request.model_fields
    of_items = list[getattr(model, "input", None)]  # type: ignore[misc, valid-type]
    items_field = next((name for name, field in fields.items() if field.annotation == of_items), None)
    kind = kind_of(model)
    return ExplainRoute(
        name="explain",
        handler=predict.handler,
        request=one_item(model, predict.request, items_field) if items_field else predict.request,
        response=explanation_schema(model, predict, kind, items_field),
        summary=SUMMARIES[kind],
        # What the answer looks like depends on headers; contributions are cached by item.
        cacheable=False,
        max_body_bytes=predict.max_body_bytes,
        items_field=items_field,
    )


def one_item(model: type[Model[Any]], request: type[BaseModel], field: str) -> type[BaseModel]:
    """Return the schema of a request for one item, given that for several."""
    example = example_of(request)
    if example:
        example = {**example, field: example[field][:1]}

    class One(request):  # type: ignore[misc, valid-type]
        model_config = ConfigDict(json_schema_extra={"example": example} if example else None)

    items = Annotated[list[model.input], Field(min_length=1, max_length=1), FailFast()]  # type: ignore[name-defined]
    fields: dict[str, Any] = {field: (items, ...)}
    return create_model(f"{model.__name__}One", __base__=One, __module__=__name__, __doc__="One item.", **fields)


def explanation_schema(model: type[Model[Any]], predict: Route, kind: str, field: str | None) -> type[BaseModel]:
    """Return the schema of an answer."""
    type_, description, part = PARTS[kind]
    if kind == "name":
        part = next(column.name for column in model.inputs if column.used)
    named: dict[str, Any] = {kind: (type_, Field(description=description))}
    value = Field(description="what it adds to the explained score")
    contribution = create_model(f"{model.__name__}Contribution", __module__=__name__, **named, value=(float, value))
    fields: dict[str, Any] = {
        "prediction": (predict.response, Field(description="what predict answers")),
        "base": (float, Field(description="the score without any of the parts")),
        "contributions": (list[contribution], ...),
        "evaluations": (int, Field(description="items that were computed beside the explained one", ge=0)),
        "standard_error": (float, Field(description="the largest of a contribution; 0 unless sampled", ge=0)),
    }
    example: dict[str, Any] = {
        "prediction": answer_of_one(predict, field),
        "base": 0.5,
        "contributions": [{kind: part, "value": 0.25}],
        "evaluations": 64,
        "standard_error": 0.0,
    }
    config = ConfigDict(json_schema_extra={"example": example})
    return create_model(f"{model.__name__}Explanation", __config__=config, __module__=__name__, **fields)


def answer_of_one(predict: Route, field: str | None) -> dict[str, Any]:
    """Return the example of an answer of predict, cut to its first item where the request lists items in `field`."""
    answer = example_of(predict.response)
    items = len(example_of(predict.request).get(field, ())) if field else 0
    return {
        name: value[:1] if isinstance(value, list) and len(value) == items else value for name, value in answer.items()
    }


def example_of(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the example of a schema, empty where it has none."""
    extra = schema.model_config.get("json_schema_extra")
    found: dict[str, Any] = extra.get("example", {}) if isinstance(extra, dict) else {}  # type: ignore[assignment]
    return found


async def explained(
    service: ExplanationService,
    predictor: Predictor,
    route: ExplainRoute,
    request: BaseModel,
    context: RequestContext,
    exchange: Exchange | None,
) -> Response:
    """Answer a request as predict does, and explain the answer; raise what either raises.

    The answer is a heat map where the headers of the exchange prefer one and the item is a picture.
    """
    seen: list[tuple[Any, Array]] = []

    async def infer(items: Collection[Any]) -> Array:
        if len(items) != 1:
            raise InvalidInputError(f"explain takes one item, not {len(items)}", (), "too_many_items")
        outputs = await predictor.infer(items, context)
        seen.append((next(iter(items)), outputs[0]))
        return outputs

    prediction = await route.handler(predictor.model, request, infer)
    item, output = seen[0]
    found = await service.explain(predictor, item, output, route.element(request), context)
    if exchange is not None:
        exchange.note_caches()
    if exchange is not None and found.view is not None and prefers_png(exchange.headers.get(b"accept", b"")):
        return Response(await to_its_end(heat_map, found.view, found.attribution.values), media_type=PNG)
    answer = route.response.model_construct(
        prediction=prediction,
        base=found.attribution.base,
        contributions=contributions(found),
        evaluations=found.attribution.evaluations,
        standard_error=found.attribution.standard_error,
    )
    return Response(answer.model_dump_json(exclude_unset=True, warnings=False), media_type="application/json")


def contributions(found: Explanation) -> list[dict[str, Any]]:
    """Return the parts of an explanation with their values; a part that lies outside of a picture is left out."""
    parts = zip(found.parts, found.attribution.values.tolist(), strict=True)
    return [{found.kind: part, "value": value} for part, value in parts if part is not None]


def prefers_png(accept: bytes) -> bool:
    """Return whether a header Accept asks for PNG, and for JSON at most as much."""
    weights = dict(map(media_range, accept.decode("latin-1").split(",")))
    return weights.get(PNG, 0.0) > 0 and weights[PNG] >= weights.get("application/json", 0.0)


def media_range(text: str) -> tuple[str, float]:
    """Return the media type of an entry of Accept and its weight (RFC 9110, section 12.4.2), 0 where that is none."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((value for key, _, value in (part.partition("=") for part in parameters) if key == "q"), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0
