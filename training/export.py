"""Export to ONNX. The libraries are imported where they are used: a model needs one of them, and seconds."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import onnx

from training.trained import TrainingError

# The first with an operator for attention, which onnxruntime runs as one fused kernel.
OPSET = 23

if TYPE_CHECKING:
    import torch


def sklearn_to_onnx(fitted: Any, features: int, output: str) -> bytes:
    """ONNX file of a scikit-learn model: `features` float32 (n, features) -> one of skl2onnx's outputs.

    These are `label` int64 (n,) and, of most classifiers, `probabilities` float32 (n, classes).
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # skl2onnx reads attributes that scikit-learn deprecates
        model = to_onnx(
            fitted,
            initial_types=[("features", FloatTensorType([None, features]))],
            options={"zipmap": False},
            target_opset=18,
        )
    kept = [entry for entry in model.graph.output if entry.name == output]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def torch_to_onnx(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], dynamic: dict[str, dict[int, Any]], output: str
) -> bytes:
    """ONNX file of `model(**inputs)` with one output; `dynamic` names the axes that vary, per input."""
    import torch

    # The exporter tells of operators of packages that are not installed and of names it simplifies.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            kwargs=inputs,
            dynamic_shapes=dynamic,
            input_names=list(inputs),
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise TrainingError("torch exported nothing")
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
