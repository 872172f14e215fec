"""Customer segmentation: the probability that a customer buys, by a GLM over 25 variables of a row."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from models.model import Array, Column, Columns, Infer, Model, route
from models.segmentation.columns import EXAMPLE, INPUTS, THRESHOLD, VARIABLES, features, parse_money, parse_percent
from models.segmentation.infer_rows import without_unread
from models.segmentation.rows import MAX_ROWS, Row, Rows, read_rows

__all__ = ["Segmentation", "parse_money", "parse_percent"]


class Segments(BaseModel):
    """One probability and class per row, in the rows' order; class 1 where the probability is over 0.75."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"class_probability": [0.37], "predicted_class": [0], "input_variables": list(VARIABLES)}
        }
    )

    class_probability: list[float]
    predicted_class: list[int]
    input_variables: list[str] = list(VARIABLES)


class Segmentation(Model[Array]):
    """An item is a row of `features`, its output the probabilities of both classes."""

    input = Row
    input_example = EXAMPLE
    inputs = INPUTS
    outputs = (Column("class_probability", float, 0.37), Column("predicted_class", int, 0))
    max_items = MAX_ROWS
    max_batch = 4_096
    max_file_items = 100_000
    vectorized = True
    file_response = Segments

    @classmethod
    @override
    def items(cls, columns: Columns) -> Array:
        return features(columns)

    @classmethod
    @override
    def without_unread(cls, body: bytes) -> bytes:
        return without_unread(body)

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @override
    def columns(self, outputs: Array) -> Columns:
        probability = outputs[:, 1]
        return {"class_probability": probability, "predicted_class": (probability > THRESHOLD).astype(np.int64)}

    @route(decode=read_rows)
    async def predict(self, request: Rows, infer: Infer[Array]) -> Segments:
        """Score 1 to 10 000 rows."""
        columns = self.columns(await infer(request.features()))
        # Their types need no check, which would cost as much as writing them.
        lists = {name: values.tolist() for name, values in columns.items()}
        return Segments.model_construct(**lists, input_variables=list(VARIABLES))
