"""Models as the server runs them, to be compared and evaluated."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import models
from models.model import Array
from serving.inference.padding import run_by_length
from training.artifact import open_graph


class Served:
    """A model loaded from the folder of a store entry: its own preprocessing, then its graph."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.model: Any = models.find(name)(folder)
        self.run = open_graph(folder / "model.onnx")

    def outputs(self, items: Collection[Any]) -> Array:
        """Return the graph's output for each item, (n, ...), computed in batches of like length, padded with zeros."""
        inputs = [self.model.preprocess(item) for item in items]
        return run_by_length(self.run, inputs, self.model.max_batch)


@contextmanager
def serve(name: str, graph: bytes, files: dict[str, bytes]) -> Iterator[Served]:
    """Yield the model that a graph and these files would be in the store."""
    with tempfile.TemporaryDirectory() as folder:
        for file, content in {"model.onnx": graph, **files}.items():
            Path(folder, file).write_bytes(content)
        yield Served(name, Path(folder))
