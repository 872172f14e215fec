"""Export of scikit-learn's models to ONNX."""

from __future__ import annotations

import warnings
from typing import Any

import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import is_classifier

from training.artifact import TrainingError


def sklearn_to_onnx(fitted: Any, features: int, output: str) -> bytes:
    """Export a fitted scikit-learn model to ONNX: `features` float32 (n, features) -> one of skl2onnx's outputs.

    Outputs are, of classifiers, `label` int64 (n,) and mostly `probabilities` float32 (n, classes); of regressors
    `variable` float32 (n, 1). Raises TrainingError for an output that the model does not have.
    """
    options = {"zipmap": False} if is_classifier(fitted) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # skl2onnx reads attributes that scikit-learn deprecates
        model = to_onnx(
            fitted,
            initial_types=[("features", FloatTensorType([None, features]))],
            options=options,
            target_opset=18,
        )
    kept = [entry for entry in model.graph.output if entry.name == output]
    if not kept:
        names = ", ".join(entry.name for entry in model.graph.output)
        raise TrainingError(f"the exported graph has no output {output}, it has {names}")
    del model.graph.output[:]
    model.graph.output.extend(kept)
    # skl2onnx lists them in the order of a set, which differs between processes.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]
