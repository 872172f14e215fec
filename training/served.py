"""Models as the server runs them, to be compared and evaluated."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import models
from models.model import Array
from training.artifact import open_graph


class Served:
    """A model loaded from the folder of a store entry: its own preprocessing, then its graph."""

    def __init__(self, name: str, folder: Path) -> None:
        self.model: Any = models.find(name)(folder)
        self.run = open_graph(folder / "model.onnx")

    def outputs(self, items: Collection[Any]) -> Array:
        """Return the graph's output for each item, (n, ...), computed in batches of like length, padded with zeros."""
        inputs = [self.model.preprocess(item) for item in items]
        order = sorted(range(len(items)), key=lambda i: sum(array.size for array in inputs[i].values()))
        found: dict[int, Array] = {}
        for start in range(0, len(order), self.model.max_batch):
            index = order[start : start + self.model.max_batch]
            batch = {name: pad([inputs[i][name] for i in index]) for name in inputs[0]}
            found |= zip(index, self.run(batch), strict=True)
        return np.stack([found[i] for i in range(len(items))])


def pad(arrays: Sequence[Array]) -> Array:
    """Stack arrays that differ at most in their first axis into one (n, longest, ...), appending zeros."""
    longest = max(array.shape[0] for array in arrays)
    rest = [(0, 0)] * (arrays[0].ndim - 1)
    return np.stack([np.pad(array, [(0, longest - array.shape[0]), *rest]) for array in arrays])


@contextmanager
def serve(name: str, graph: bytes, files: dict[str, bytes]) -> Iterator[Served]:
    """Yield the model that a graph and these files would be in the store."""
    with tempfile.TemporaryDirectory() as folder:
        for file, content in {"model.onnx": graph, **files}.items():
            Path(folder, file).write_bytes(content)
        yield Served(name, Path(folder))
