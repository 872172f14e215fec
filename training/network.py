"""From a torch network to what lies in the store: exported, compared with the original, quantized."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from onnx import ModelProto

from models.model import Array, softmax
from training.artifact import ProgressCallback, TrainingError, check_labels, check_probabilities, compare_quantized
from training.hub import first_line
from training.served import Served, serve

# The first with an operator for attention, which onnxruntime runs as one fused kernel.
OPSET = 23


@dataclass(frozen=True)
class Network:
    """A network that is to be served under `name`.

    `forward` gives the original's logits (n, labels) of a batch of the graph's inputs, `reference`
    its probabilities of items as they are sent, prepared by the framework's own means. `export` makes
    the float32 graph, `quantize` an int8 one of it. `files` lie beside the graph, `items` (500 or more)
    are what the graph is compared with the original on.
    """

    name: str
    forward: Callable[[dict[str, Array]], Array]
    reference: Callable[[Sequence[Any]], Array]
    export: Callable[[], bytes]
    quantize: Callable[[bytes], bytes]
    files: dict[str, bytes]
    items: Sequence[Any]


def make_graph(network: Network, quantized: bool, report: ProgressCallback) -> tuple[bytes, dict[str, float]]:
    """Return the graph to be served and how far it is from the original.

    Raise TrainingError when the export is not faithful.
    """
    report("exporting", 0.2)
    exported = network.export()
    report("comparing", 0.4)
    original = network.reference(network.items)
    probabilities = outputs(network, exported)
    parity = check_labels(original.argmax(1), probabilities.argmax(1)) | check_probabilities(original, probabilities)
    if not quantized:
        return exported, parity
    report("quantizing", 0.6)
    graph = network.quantize(exported)
    return graph, parity | compare_quantized(probabilities, outputs(network, graph))


def outputs(network: Network, graph: bytes) -> Array:
    """Probabilities (n, labels) that a graph gives to the network's items as they would be served."""
    with serve(network.name, graph, network.files) as served:
        check_differences(served, network.items[::4])
        return softmax(served.outputs(network.items))


def check_differences(served: Served, items: Sequence[Any]) -> None:
    """Raise TrainingError unless most items still differ once they are prepared, or a comparison would tell nothing."""
    inputs = set()
    for item in items:
        parts = [array.tobytes() for array in served.model.preprocess(item).values()]
        inputs.add(blake2b(b"".join(parts), digest_size=16).digest())
    if len(inputs) < len(items) / 2:
        raise TrainingError(f"its preparation makes only {len(inputs)} different inputs of {len(items)}")


def torch_to_onnx(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], dynamic: dict[str, dict[int, Any]], output: str
) -> bytes:
    """ONNX file of `model(**inputs)` with one output; `dynamic` names the axes that vary, per input."""
    # The exporter tells of operators of packages that are not installed and of names it simplifies.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
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
        except Exception as error:  # of many classes, with many lines
            reason = first_line(error.__cause__ or error)
            raise TrainingError(f"torch cannot export {type(model).__name__} to ONNX: {reason}") from error
    if program is None:
        raise TrainingError("torch exported nothing")
    return without_traces(program.model_proto).SerializeToString()  # type: ignore[no-any-return]


def without_traces(model: ModelProto) -> ModelProto:
    """Return the model without what tells of the code that made it, such as stack traces with paths."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
    return model
