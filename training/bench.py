"""`python -m training bench [model ...]`: speed of our networks' graphs, as ratios to eager PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from models.model import Array
from serving.inference.padding import stack
from training.artifact import open_graph
from training.network import Network
from training.served import serve
from training.trainer import find

BATCHES = (1, 8, 32)
THREADS = (1, 2)
ROUNDS = 5

Batch = dict[str, Array]


def run(names: Sequence[str]) -> None:
    """Measure the network of each of these models that has one, and print a table."""
    console = Console()
    for name in names:
        trainer = find(name)
        if trainer.bench is not None:
            console.print(measure(*trainer.bench()))


def measure(network: Network, items: Sequence[Any], shipped: str) -> Table:
    """Measure items per second of PyTorch and of both graphs, in the same run, by threads and batch.

    The int8 graph runs as it is served on this processor, and with unsigned weights, as where there is no VNNI.
    """
    float32 = network.export()
    graphs = {"float32": float32, "int8": network.quantize(float32)}
    with serve(network.name, float32, network.files) as served:
        inputs = [served.model.preprocess(item) for item in items]
    inputs.sort(key=lambda arrays: sum(array.size for array in arrays.values()))
    columns = [f"{form}{' (shipped)' if form == shipped else ''}" for form in graphs] + ["int8, unsigned"]
    table = Table("threads", "batch", "PyTorch, items/s", *columns, title=f"{network.name}: ratios to PyTorch")
    for threads in THREADS:
        torch.set_num_threads(threads)
        runs: list[Callable[[Batch], Array]] = [network.forward]
        runs += [open_graph(graph, threads) for graph in graphs.values()]
        runs.append(open_graph(graphs["int8"], threads, signed=False))
        for size in BATCHES:
            batches = [stack(inputs[i : i + size]) for i in range(0, len(inputs), size)]
            seconds = [[elapsed(run, batches) for run in runs] for _ in range(ROUNDS)]
            first, *others = (statistics.median(column) for column in zip(*seconds, strict=True))
            table.add_row(
                str(threads), str(size), f"{len(inputs) / first:.0f}", *(f"{first / other:.2f}" for other in others)
            )
    return table


def elapsed(run: Callable[[Batch], Array], batches: Sequence[Batch]) -> float:
    """Return the seconds that all batches take, after one to warm up."""
    run(batches[0])
    started = time.perf_counter()
    for batch in batches:
        run(batch)
    return time.perf_counter() - started
