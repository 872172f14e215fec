"""Breast cancer: is a tumour malignant, from six measurements of its cell nuclei."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from models.model import Array, Column, Columns, Model

Measurement = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]

EXAMPLE: dict[str, Any] = {
    "concavity_mean": 0.3001,
    "concave_points_mean": 0.1471,
    "perimeter_se": 8.589,
    "area_se": 153.4,
    "texture_worst": 17.33,
    "area_worst": 2019.0,
}


class Measurements(BaseModel):
    """Six measurements of the Wisconsin diagnostic data set, in its units; the graph reads them in this order."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    concavity_mean: Measurement
    concave_points_mean: Measurement
    perimeter_se: Measurement
    area_se: Measurement
    texture_worst: Measurement
    area_worst: Measurement


FEATURES = tuple(Measurements.model_fields)
LABELS = ("B", "M")


class BreastCancer(Model[Array]):
    """An item is a float32 row (6,), its output the class: 1 for malignant."""

    input = Measurements
    input_example = EXAMPLE
    outputs = (Column("label", Literal["M", "B"], "M"), Column("prediction", Literal[0, 1], 1))
    max_items = 10_000
    max_batch = 4_096
    max_file_items = 100_000
    vectorized = True

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @override
    def columns(self, outputs: Array) -> Columns:
        return {"label": np.array(LABELS, dtype=np.object_)[outputs], "prediction": outputs}
