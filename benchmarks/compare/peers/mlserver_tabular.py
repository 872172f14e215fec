"""breast_cancer as a custom runtime of MLServer with adaptive batching, on Tiffin's ONNX file: V2 protocol.

An input is a column of measurements, as in Tiffin's own requests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Tuple  # noqa: UP035  # MLServer does not know list[str]

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import decode_args

LABELS = np.array(["B", "M"])


class TumourClassifier(MLModel):
    """The runtime that model-settings.json names."""

    async def load(self) -> bool:
        """Load the model in a worker."""
        self.session = onnxruntime.InferenceSession(
            Path(os.environ["MODEL"]) / "model.onnx", providers=["CPUExecutionProvider"]
        )
        return True

    @decode_args
    async def predict(
        self,
        concavity_mean: np.ndarray,
        concave_points_mean: np.ndarray,
        perimeter_se: np.ndarray,
        area_se: np.ndarray,
        texture_worst: np.ndarray,
        area_worst: np.ndarray,
    ) -> Tuple[List[str], np.ndarray]:  # noqa: UP006
        """Classify a batch of rows; return label and class of each."""
        columns = (concavity_mean, concave_points_mean, perimeter_se, area_se, texture_worst, area_worst)
        features = np.stack([column.ravel() for column in columns], axis=1).astype(np.float32)
        (classes,) = self.session.run(None, {"features": features})
        return LABELS[classes].tolist(), classes
