"""`python -m training [model ...]`: make models and save them to the BentoML model store."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

import models
from training import store
from training.trained import TrainingError, require


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(models.names())}; all by default")
    parser.add_argument("--data", type=Path, help="folder with sst2/ and cifar10/, to evaluate and to fit on")
    parser.add_argument(
        "--fit", action="store_true", help="fit the weights in training/weights anew on --data (image and sentiment)"
    )
    parser.add_argument("--force", action="store_true", help="make models that the store already has, too")
    options = parser.parse_args()
    try:
        options.models = [models.check(name) for name in options.models] or models.names()
    except ValueError as error:
        parser.error(str(error))
    if options.fit and options.data is None:
        parser.error("--fit needs --data")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: no folder {options.data}")
    return options


def make(name: str, options: argparse.Namespace, progress: Progress) -> tuple[bentoml.Model, str]:
    """Make one model unless the store has it: its entry and what was done."""
    task = progress.add_task(name, total=1.0, step="")
    inputs = store.inputs_digest(name, options.data)
    entry = None if options.force or options.fit else store.current(name, inputs)
    if entry is not None:
        progress.update(task, completed=1.0, step="in the store")
        return entry, "kept"

    def report(step: str, done: float) -> None:
        progress.update(task, completed=done, step=step)

    require(Path(__file__).parent / f"{name}.py", f"what makes {name}")
    # Imported only now: torch and transformers take seconds that a run with nothing to do is spared.
    module = importlib.import_module(f"training.{name}")
    started = time.perf_counter()
    if options.fit and hasattr(module, "fit"):
        module.fit(options.data, report)
        inputs = store.inputs_digest(name, options.data)
    entry = store.save(name, module.train(options.data, report), inputs)
    report("saved", 1.0)
    return entry, f"made in {time.perf_counter() - started:.0f} s"


def main() -> int:
    """Make the models; exit code 1 when one fails."""
    options = arguments()
    console = Console()
    table = Table("model", "version", "result", Column("metric", overflow="fold"), "value")
    failed = False
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in options.models:
            try:
                entry, result = make(name, options, progress)
            except TrainingError as error:
                failed = True
                table.add_row(name, "", "[red]failed", str(error))
                continue
            first = (name, str(entry.tag.version), result)
            for metric, value in store.metrics(entry).items():
                table.add_row(*first, metric, f"{value:.4f}")
                first = ("", "", "")
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
