"""Customer segmentation: the probability that a customer buys, by a GLM over 25 variables of a row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from models.model import Array, Infer, Model, route
from models.segmentation.columns import THRESHOLD, VARIABLES, parse_money, parse_percent
from models.segmentation.files import read_file
from models.segmentation.infer_rows import without_unread
from models.segmentation.rows import EXAMPLE_ROW, MAX_ROWS, Row, Rows, read_rows, row_features

__all__ = ["Segmentation", "parse_money", "parse_percent"]


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

    @classmethod
    @override
    def without_unread(cls, body: bytes) -> bytes:
        return without_unread(body)

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @route(decode=read_rows)
    async def predict(self, request: Rows, infer: Infer[Array]) -> Segments:
        """Score 1 to 10 000 rows."""
        return segments(await infer(request.features()))

    @route(upload=True)
    async def uploadfile(self, request: File, infer: Infer[Array]) -> Segments:
        """Score a file of up to 100 000 rows."""
        return segments(await infer(await asyncio.to_thread(read_file, request.file)))


def segments(probabilities: Array) -> Segments:
    """Return the response for the probabilities of both classes, float32 (rows, 2)."""
    probability = probabilities[:, 1]
    # Their types need no check, which would cost as much as writing them.
    return Segments.model_construct(
        class_probability=probability.tolist(),
        predicted_class=(probability > THRESHOLD).astype(int).tolist(),
        input_variables=list(VARIABLES),
    )
