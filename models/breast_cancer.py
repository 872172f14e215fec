"""Breast cancer: is a tumour malignant, from six measurements of its cell nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from models.model import Array, Infer, Model, clipped, route

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


class Diagnosis(BaseModel):
    """M (1) for malignant, B (0) for benign."""

    model_config = ConfigDict(json_schema_extra={"example": {"label": "M", "prediction": 1}})

    label: Literal["M", "B"]
    prediction: Literal[0, 1]


FEATURES = tuple(Measurements.model_fields)
LABELS = ("B", "M")


class BreastCancer(Model[Array]):
    """An item is a float32 row (6,)."""

    input = Measurements
    input_example = EXAMPLE
    max_items = 10_000
    max_batch = 4_096
    vectorized = True

    @classmethod
    @override
    def items(cls, inputs: Sequence[Measurements]) -> Array:
        rows = np.array([[getattr(row, name) for name in FEATURES] for row in inputs])
        return clipped(rows).astype(np.float32)

    @override
    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"features": item}

    @route()
    async def predict(self, request: Measurements, infer: Infer[Array]) -> Diagnosis:
        """Diagnose one tumour."""
        prediction = int((await infer(self.items([request])))[0])
        return Diagnosis.model_validate({"label": LABELS[prediction], "prediction": prediction})
