"""Customer segmentation: the probability that a customer buys, by a GLM over 25 variables of a row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field
from typing_extensions import TypedDict, override

from models.model import Array, Infer, Model, route
from models.segmentation.columns import (
    COLUMNS,
    THRESHOLD,
    USED,
    VARIABLES,
    column_type,
    features,
    parse_money,
    parse_percent,
)
from models.segmentation.files import read_file

__all__ = ["Segmentation", "parse_money", "parse_percent"]

MAX_ROWS = 10_000

if TYPE_CHECKING:
    Row = dict[str, float | str | None]
else:
    Row = TypedDict("Row", {name: column_type(name, text=False) for name in COLUMNS}, total=False)

EXAMPLE_ROW: dict[str, Any] = {
    "x0": 0.04,
    "x5": "monday",
    "x12": "$5,547.78",
    "x31": "germany",
    "x44": -0.61,
    "x53": 0.33,
    "x56": None,
    "x58": 0.22,
    "x62": 0.37,
    "x63": "36.29%",
    "x81": "October",
    "x82": "Female",
    "x91": 0.04,
    "x99": -60.3,
}


class Rows(BaseModel):
    """Rows of x0 to x99; a field may be null or absent and is then imputed, other fields are ignored."""

    model_config = ConfigDict(json_schema_extra={"example": {"data": [EXAMPLE_ROW]}})

    # Of many bad rows the first is reported: ten thousand would make an answer larger than the request.
    data: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS), FailFast()]


class File(BaseModel):
    """A file of up to 100 000 rows."""

    file: Path = Field(description='JSON ({"data": [...]}), CSV with a header, or Parquet')


class Segments(BaseModel):
    """One probability and class per row, in the rows' order; class 1 where the probability is over 0.75."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"class_probability": [0.37], "predicted_class": [0], "input_variables": list(VARIABLES)}
        }
    )

    class_probability: list[float]
    predicted_class: list[int]
    input_variables: list[str]


def row_features(rows: Sequence[Row]) -> Array:
    """`features` of validated rows."""
    return features({name: [row.get(name) for row in rows] for name in USED})


class Segmentation(Model[Array]):
    """An item is a row of `features`, its output the probabilities of both classes."""

    input = Row
    input_example = EXAMPLE_ROW
    max_items = MAX_ROWS
    max_batch = 4_096
    vectorized = True

    @classmethod
    @override
    def items(cls, inputs: Sequence[Row]) -> Array:
        return row_features(inputs)

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @route()
    async def predict(self, request: Rows, infer: Infer[Array]) -> Segments:
        """Score 1 to 10 000 rows."""
        return segments(await infer(await asyncio.to_thread(row_features, request.data)))

    @route(upload=True)
    async def uploadfile(self, request: File, infer: Infer[Array]) -> Segments:
        """Score a file of up to 100 000 rows."""
        return segments(await infer(await asyncio.to_thread(read_file, request.file)))


def segments(probabilities: Array) -> Segments:
    """The response for the probabilities of both classes, float32 (rows, 2)."""
    probability = probabilities[:, 1]
    return Segments(
        class_probability=probability.tolist(),
        predicted_class=(probability > THRESHOLD).astype(int).tolist(),
        input_variables=list(VARIABLES),
    )
