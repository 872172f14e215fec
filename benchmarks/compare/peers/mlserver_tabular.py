"""breast_cancer as a custom runtime of MLServer with adaptive batching, V2 protocol: an input for each measurement.

ENGINE is `sklearn` for the fitted ensemble, `onnx` for Tiffin's own graph; MODEL is the folder of either.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import List, Tuple  # noqa: UP035  # MLServer does not know list[str]

import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args

LABELS = np.array(["B", "M"])
Classify = Callable[[dict[str, np.ndarray]], np.ndarray]


def sklearn_ensemble(folder: Path) -> Classify:
    """Load the ensemble, which knows its columns by their names."""
    import joblib
    import pandas as pd

    ensemble = joblib.load(folder / "breast_cancer.joblib")
    return lambda columns: ensemble.predict(pd.DataFrame(columns))


def onnx_session(folder: Path) -> Classify:
    """Load the graph, which takes float32 rows (n, 6)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def classify(columns: dict[str, np.ndarray]) -> np.ndarray:
        features = np.stack(list(columns.values()), axis=1).astype(np.float32)
        (classes,) = session.run(None, {"features": features})
        return classes

    return classify


class TumourClassifier(MLModel):
    """The runtime that model-settings.json names."""

    async def load(self) -> bool:
        """Load the model in a worker."""
        load = {"sklearn": sklearn_ensemble, "onnx": onnx_session}[os.environ["ENGINE"]]
        self.classify = load(Path(os.environ["MODEL"]))
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
        columns = {
            "concavity_mean": concavity_mean,
            "concave_points_mean": concave_points_mean,
            "perimeter_se": perimeter_se,
            "area_se": area_se,
            "texture_worst": texture_worst,
            "area_worst": area_worst,
        }
        classes = self.classify({name: values.ravel() for name, values in columns.items()})
        return LABELS[classes].tolist(), classes
