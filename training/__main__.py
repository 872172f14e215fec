"""`python -m training [model ...]`: make models and save them to the BentoML model store.

By argparse: click and typer have neither a default command nor rules between options, and made this longer when tried.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

# Before anything that an older Python cannot read.
if sys.version_info < (3, 11):  # noqa: UP036
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"Tiffin needs Python 3.11 or newer, this is {version}: make the virtual environment with a newer one")

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Matplotlib keeps its list of fonts there.
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".cache" / "matplotlib"))

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

import models
from serving.bento.shipped import FOLDER, put_into_store, read_info
from serving.bento.start import check_home, store_faults
from training import ship as shipping
from training import store
from training.artifact import Evaluation, ProgressCallback, Result, TrainingError, deviations
from training.served import Served
from training.sources import inputs_digest
from training.trainer import find, find_fit, find_held_out, find_own

REPORTS = ROOT / "reports"


def arguments() -> argparse.Namespace:
    """Parse the command line; exit with 2 where it names no model of ours or its options do not go together."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=(
            "Make models and save them to the BentoML model store. `python -m training evaluate` measures what is in "
            "the store, `bench` the speed of our networks' graphs against PyTorch; `ship` writes models/shipped, and "
            "`reproduce` makes models and compares them with what is there."
        ),
    )
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(models.names())}; all by default")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with sst2/ and cifar10/: evaluate, fit on it")
    parser.add_argument("--force", action="store_true", help="make models that the store already has, too")
    parser.add_argument(
        "--fit",
        action="store_true",
        help="fit the weights in training/MODEL/weights anew on --data (image and sentiment)",
    )
    own = parser.add_argument_group("a model of your own (image or sentiment)")
    own.add_argument("--from-hub", metavar="ID", help="name on the Hugging Face hub, or folder with a saved model")
    own.add_argument("--revision", help="commit, tag or branch on the hub; the newest by default")
    own.add_argument("--from-onnx", type=Path, metavar="FILE", help="ONNX file of an image classifier")
    own.add_argument(
        "--from-keras", type=Path, metavar="FILE", help="Keras file or SavedModel of one; needs make tensorflow"
    )
    own.add_argument("--labels", type=Path, metavar="FILE", help="its labels, a line each or JSON")
    own.add_argument("--quantize", action="store_true", help="serve it in int8")
    options = parser.parse_args()
    options.command = "make"
    if options.models and options.models[0] in ("evaluate", "bench", "ship", "reproduce"):
        options.command = options.models.pop(0)
    options.file = options.from_onnx or options.from_keras
    options.own = options.from_hub is not None or options.file is not None
    if options.own and options.command == "make":
        options.command = "own"
    for fault in faults(options):
        parser.error(fault)
    try:
        options.models = [models.check(name) for name in options.models] or models.names()
    except ValueError as error:
        parser.error(str(error))
    return options


def faults(options: argparse.Namespace) -> list[str]:
    """Return a message for each rule between the options that they break."""
    given = {name: getattr(options, name) for name in ("from_hub", "from_onnx", "from_keras")}
    sources = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    source = next(iter(sources), "")
    rules = {
        "--fit needs --data": options.fit and options.data is None,
        f"--data: no folder {options.data}": options.data is not None and not options.data.is_dir(),
        "--fit, --force and models of your own do not go together": options.own and (options.fit or options.force),
        f"{options.command} takes only models and --data": options.command not in ("make", "own")
        and (options.own or options.fit or options.force),
        "--from-hub, --from-onnx and --from-keras do not go together": len(sources) > 1,
        f"{source} needs one model: image or sentiment": options.own and len(options.models) != 1,
        f"{source} needs --labels": options.file is not None and options.labels is None,
        "--labels belongs to --from-onnx and --from-keras": options.labels is not None and options.file is None,
        "--revision belongs to --from-hub": options.revision is not None and options.from_hub is None,
        "--quantize belongs to a model of your own": options.quantize and not options.own,
    }
    return [fault for fault, broken in rules.items() if broken]


def make(name: str, options: argparse.Namespace, report: ProgressCallback) -> Result:
    """Make one model unless the store has it."""
    inputs = inputs_digest(name, options.data)
    entry = None if options.force or options.fit else store.current(name, inputs)
    if entry is not None:
        report("in the store", 1.0)
        origin = store.origin(entry)
        done = f"kept, your own from {origin}; --force makes ours" if origin else "kept"
        return Result(f"{entry.tag} {done}", store.metrics(entry))
    trainer = find(name)
    started = time.perf_counter()
    if options.fit and trainer.weights is not None:
        find_fit(name)(options.data, report)
    artifact = trainer.train(options.data, report)
    if options.fit and trainer.weights is not None:
        importlib.import_module("training.fitting").record_evaluation(trainer.weights, artifact.evaluation)
        inputs = inputs_digest(name, options.data)
        # Fitted here, it is the user's own, which nothing that is shipped replaces.
        artifact = replace(artifact, origin={"from": f"--fit --data {options.data.resolve()}"})
    with store_faults():
        entry = store.save(name, artifact, inputs, changed=is_changed(name, inputs))
    write_pictures(name, artifact.evaluation)
    report("saved", 1.0)
    return Result(f"{entry.tag} made in {time.perf_counter() - started:.0f} s", store.metrics(entry))


def is_changed(name: str, inputs: str) -> bool:
    """Return whether a model is shipped, but was made from other sources than these inputs."""
    shipped = FOLDER / name
    return shipped.is_dir() and read_info(shipped)["metadata"]["inputs_digest"] != inputs


def make_own(name: str, options: argparse.Namespace, report: ProgressCallback) -> Result:
    """Make one model from the user's own weights."""
    trainer = find_own(name)
    started = time.perf_counter()
    if options.from_hub is not None:
        report("looking it up", 0.0)
        source = importlib.import_module("training.hub").fetch(options.from_hub, options.revision)
        artifact = trainer.train_from_hub(source, options.quantize, options.data, report)
    else:
        train = trainer.train_from_onnx if options.from_onnx is not None else trainer.train_from_keras
        if train is None:
            raise TrainingError(f"--from-onnx and --from-keras are for image models, not for {name}")
        artifact = train(options.file, options.labels, options.quantize, options.data, report)
    with store_faults():
        entry = store.save(name, artifact, None)
    write_pictures(name, artifact.evaluation)
    report("saved", 1.0)
    return Result(f"{entry.tag} made in {time.perf_counter() - started:.0f} s", store.metrics(entry))


def evaluate(name: str, options: argparse.Namespace, report: ProgressCallback) -> Result:
    """Measure the newest store entry of a model, as it is served, and its explanations."""
    with store_faults():
        put_into_store([name])
    entry = store.newest(name)
    if entry is None:
        raise TrainingError(f"the store has no {name}; make it with: python -m training {name}")
    trainer = find(name)
    served = Served(name, Path(entry.path))
    report("evaluating", 0.2)
    evaluation = trainer.evaluate(served, options.data)
    report("explaining", 0.5)
    unfaithful = []
    faithfulness = importlib.import_module("training.faithfulness")
    if inputs := find_held_out(name)(options.data, faithfulness.INPUTS):
        found = faithfulness.faithfulness(name, Path(entry.path), inputs)
        evaluation |= Evaluation({"faithfulness": found})
        if found.value < faithfulness.LEAST:
            unfaithful = [f"faithfulness {found.value:.4f} is under {faithfulness.LEAST}"]
    if not evaluation.metrics:
        raise TrainingError("there is nothing to measure it on without --data")
    write_pictures(name, evaluation)
    report("evaluated", 1.0)
    accuracies = {name: metric for name, metric in evaluation.metrics.items() if name.endswith("accuracy")}
    deviating = deviations(accuracies, store.metrics(entry)) + unfaithful
    return Result(f"{entry.tag} evaluated", evaluation.metrics, deviating)


def write_pictures(name: str, evaluation: Evaluation) -> None:
    """Write an evaluation's pictures to `reports/<model>/`."""
    for file, content in evaluation.pictures.items():
        (REPORTS / name).mkdir(parents=True, exist_ok=True)
        (REPORTS / name / file).write_bytes(content)


def ship(name: str, options: argparse.Namespace, report: ProgressCallback) -> Result:
    """Write `models/shipped` for one model."""
    with store_faults():
        return shipping.ship(name, find(name), options.data, report)


def reproduce(name: str, options: argparse.Namespace, report: ProgressCallback) -> Result:
    """Check that training makes the model that is shipped."""
    return shipping.reproduce(name, find(name), options.data, report)


COMMANDS = {"evaluate": evaluate, "make": make, "own": make_own, "reproduce": reproduce, "ship": ship}


def run(options: argparse.Namespace) -> int:
    """Run the command on each model, with progress, then print a table; return 1 if it failed for one of them."""
    console = Console()
    table = Table("model", Column("metric", overflow="fold"), "value", "95 % interval", "examples")
    done = []
    failures = []
    bars = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with Progress(*bars, console=console) as progress:
        for name in options.models:
            report = reporter(progress, name)
            try:
                result = COMMANDS[options.command](name, options, report)
            except TrainingError as error:
                failures.append(f"{name}: {error}")
                report("failed", 0.0)
                continue
            done.append(result.line)
            failures += [f"{name}: {deviation}" for deviation in result.deviations]
            for i, (metric, estimate) in enumerate(result.metrics.items()):
                interval = f"{estimate.low:.4f} to {estimate.high:.4f}"
                first = "" if i else name
                table.add_row(first, metric, f"{estimate.value:.4f}", interval, str(estimate.examples))
    for line in done:
        console.print(line, highlight=False, soft_wrap=True)
    if table.row_count:
        console.print(table)
    for failure in failures:
        print(failure, file=sys.stderr)
    return int(bool(failures))


def reporter(progress: Progress, name: str) -> ProgressCallback:
    """Return a function that shows a model's progress."""
    task = progress.add_task(name, total=1.0, step="")

    def report(step: str, done: float) -> None:
        progress.update(task, completed=done, step=step)

    return report


def main() -> int:
    """Run the command and return the exit code."""
    options = arguments()
    if options.command == "bench":
        importlib.import_module("training.bench").run(options.models)
        return 0
    check_home()
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
