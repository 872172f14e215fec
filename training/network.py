"""From a torch network to the graph in the store: exported, compared with the original, quantized."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto

from models.model import Array, softmax
from training.artifact import (
    Evaluation,
    ProgressCallback,
    TrainingError,
    check_labels,
    check_probabilities,
    compare_quantized,
)
from training.hub import first_line
from training.served import Served, serve

# The first with an operator for attention, which onnxruntime runs as one fused kernel.
OPSET = 23


@dataclass(frozen=True)
class Network:
    """A network to be served as the model `name`.

    `forward` returns the original's logits (n, labels) for a batch of the graph's inputs; `reference` its probabilities
    for items, preprocessed by the framework's own means. `export` makes the float32 graph, `quantize` an int8 graph of
    that. `files` lie beside the graph. Graph and original are compared on `items`, 500 or more.
    """

    name: str
    forward: Callable[[dict[str, Array]], Array]
    reference: Callable[[Sequence[Any]], Array]
    export: Callable[[], bytes]
    quantize: Callable[[bytes], bytes]
    files: dict[str, bytes]
    items: Sequence[Any]


def make_graph(
    network: Network,
    quantized: bool,
    evaluate: Callable[[Served, Path | None], Evaluation],
    data: Path | None,
    report: ProgressCallback,
) -> tuple[bytes, dict[str, float], Evaluation]:
    """Return the graph to be served, its differences from the original, and what `evaluate` measures of it on `data`.

    Raises TrainingError if the exported graph gives other labels or probabilities.
    """
    report("exporting", 0.2)
    exported = network.export()
    report("comparing", 0.4)
    original = network.reference(network.items)
    probabilities = outputs(network, exported)
    parity = check_labels(original.argmax(1), probabilities.argmax(1)) | check_probabilities(original, probabilities)
    graph = exported
    if quantized:
        report("quantizing", 0.6)
        graph = network.quantize(exported)
        parity |= compare_quantized(probabilities, outputs(network, graph))
    report("evaluating", 0.8)
    with serve(network.name, graph, network.files) as served:
        return graph, parity, evaluate(served, data)


def outputs(network: Network, graph: bytes) -> Array:
    """Return probabilities (n, labels) of the network's items, from a graph that runs as it would be served."""
    with serve(network.name, graph, network.files) as served:
        check_differences(served, network.items[::4])
        return softmax(served.outputs(network.items))


def check_differences(served: Served, items: Sequence[Any]) -> None:
    """Raise TrainingError unless most items still differ once preprocessed: otherwise a comparison proves nothing."""
    inputs = set()
    for item in items:
        parts = [array.tobytes() for array in served.model.preprocess(item).values()]
        inputs.add(blake2b(b"".join(parts), digest_size=16).digest())
    if len(inputs) < len(items) / 2:
        raise TrainingError(f"its preparation makes only {len(inputs)} different inputs of {len(items)}")


def torch_to_onnx(
    model: torch.nn.Module, inputs: dict[str, torch.Tensor], dynamic: dict[str, dict[int, Any]], output: str
) -> bytes:
    """Export `model(**inputs)` to ONNX with one output; `dynamic` names the axes that vary, by input.

    Raises TrainingError in one line if torch cannot.
    """
    # The exporter logs operators of packages that are not installed and names that it simplifies.
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
    """Remove what the exporter notes about code, such as stack traces with paths, in place, and return the model."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
    return model
