"""The results: as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.compare import environments
from benchmarks.compare.cases import CASES, TIFFIN, Case, tiffin_by
from benchmarks.compare.measure import Plan, ServerResult
from benchmarks.compare.servers import PEERS
from benchmarks.machine import machine
from loadtest.processes import ROOT
from loadtest.protocols import ENCODINGS

NAMES = {
    TIFFIN: "Tiffin",
    **{tiffin_by(protocol): f"Tiffin, {protocol}" for protocol in ENCODINGS},
    "fastapi_text": "FastAPI + Redis",
    "litserve_text": "LitServe",
    "bentoml_text": "BentoML batchable",
    "mlserver_text": "MLServer",
    "mlserver_tabular": "MLServer",
    "fastapi_tabular": "FastAPI + pandas",
    "fastapi_image": "FastAPI",
}
ENGINES = {"torch": " + transformers", "sklearn": " + scikit-learn", "onnx": " + onnxruntime", "": ""}
MEANINGS = {
    "per_second": "requests/s",
    "p50": "p50",
    "p99": "p99",
    "seconds": "seconds",
    "memory": "memory",
}


def label(measured: ServerResult) -> str:
    """Return a server's name with its engine."""
    return NAMES[measured.server] + ENGINES[measured.engine]


def table(name: str, found: list[ServerResult], asked: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table of a case."""
    case = CASES[name]
    unit = "rows/s" if case.rows > 1 else "requests/s"
    yield f"\n{name}: {case.title}"
    for measured in found:
        if measured.void:
            yield f"  {label(measured):<34} void: {measured.void.splitlines()[0]}"
            continue
        figures = measured.figures
        redis = f", Redis {figures['redis_bytes'] / 2**20:.0f}" if figures["redis_bytes"] else ""
        yield (
            f"  {label(measured):<34} cold start {figures['cold_start_seconds']:.1f} s, "
            f"memory {figures['memory_bytes'] / 2**20:,.0f} MiB{redis}"
            + (f", {figures['seconds']:.2f} s" if "seconds" in figures else "")
            + (f" (others use {measured.busy:.0%} of the machine)" if measured.busy > 0.05 else "")
        )
        for connections in case.connections:
            if f"per_second_{connections}" in figures:
                speed = case.rows * figures[f"per_second_{connections}"]
                yield (
                    f"    {connections:>3} connections {speed:>10,.1f} {unit}"
                    f"  p50 {1_000 * figures[f'p50_{connections}']:>8,.1f} ms"
                    f"  p99 {1_000 * figures[f'p99_{connections}']:>8,.1f} ms"
                    f"  CPU {figures[f'cpu_per_1000_{connections}']:>7,.2f} s/1000"
                    f"  generator {figures[f'generator_share_{connections}']:>4.0%}"
                )
    if case.other_forms:
        yield from relative(case, found)
    for row in asked:
        yield "  " + verdict(row)


def relative(case: Case, found: list[ServerResult]) -> Iterator[str]:
    """Yield lines that compare the first result with the others: requests per second, and CPU time for each."""
    first, *others = [measured for measured in found if not measured.void]
    for connections in case.connections:
        speed, cpu = (f"{figure}_{connections}" for figure in ("per_second", "cpu_per_1000"))
        for measured in others:
            if speed in measured.figures and speed in first.figures:
                yield (
                    f"  {label(measured):<34} {connections:>3} connections:"
                    f" {measured.figures[speed] / first.figures[speed]:>6.2f} x the requests/s of {label(first)},"
                    f" {measured.figures[cpu] / first.figures[cpu]:>6.2f} x its CPU for each"
                )


def verdict(row: dict[str, Any]) -> str:
    """Return a line with the ratio asked for, the ratio found and whether that is enough."""
    figure, _, connections = row["figure"].rpartition("_")
    meaning = (
        f"{MEANINGS[figure]}, {connections} connections" if connections.isdigit() else MEANINGS[figure or "seconds"]
    )
    asked = f"{'>=' if figure == 'per_second' else '<='} {row['asked']:g} x"
    found = "void" if row["found"] is None else f"{row['found']:.2f} x"
    reached = "yes" if row["reached"] else "NO"
    by = f" by {row['protocol']}" if "protocol" in row else ""
    return f"{NAMES[row['peer']]:<18} {meaning:<27} asked {asked:<9} found {found:<9} {reached}{by}"


def facts(plan: Plan) -> dict[str, Any]:
    """Return facts about the machine, the programs, and the number and length of the measurements."""
    # wrk prints its version and fails.
    wrk = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout  # noqa: S607
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],  # noqa: S607
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    return {
        **machine(),
        "commit": commit.strip(),
        "load_generator": wrk.partition("\n")[0],
        "repetitions": plan.repetitions,
        "seconds": plan.seconds,
        "peers": {peer: environments.versions(peer) for peer in PEERS},
    }


def add_result(path: Path, name: str, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Add a case's result to the file, beside those of other cases, and return all of them."""
    results: dict[str, dict[str, Any]] = {}
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    results[name] = result
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def panels(results: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[tuple[str, float, str]]]]:
    """Yield the title and bars (name, share of Tiffin's speed, figure) of each case and number of connections."""
    for name in filter(results.__contains__, CASES):
        found = [ServerResult(**server) for server in results[name]["servers"]]
        ours = found[0]
        for connections in CASES[name].connections:
            figure = f"per_second_{connections}"
            if figure not in ours.figures:
                continue
            speeds = [(label(measured), measured.figures[figure]) for measured in found if figure in measured.figures]
            rows = CASES[name].rows
            bars = [(who, speed / ours.figures[figure], f"{rows * speed:,.0f}/s") for who, speed in speeds]
            yield f"{CASES[name].title}, {connections} connection{'s' if connections > 1 else ''}", bars
        if "seconds" in ours.figures:
            times = [(label(measured), measured.figures["seconds"]) for measured in found if not measured.void]
            yield CASES[name].title, [(who, ours.figures["seconds"] / taken, f"{taken:.2f} s") for who, taken in times]


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draw how fast each server is, Tiffin being 1, as horizontal bars from zero."""
    os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".cache" / "matplotlib"))
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = list(panels(results))
    if not shown:
        return
    about = next(iter(results.values()))["about"]
    farthest = 1.12 * max(share for _, bars in shown for _, share, _ in bars)
    heights = [len(bars) + 1.6 for _, bars in shown]
    half = next(count for count in range(1, len(shown) + 1) if sum(heights[:count]) >= sum(heights) / 2)
    columns = [column for column in (slice(half), slice(half, None)) if shown[column]]
    tallest = max(sum(heights[column]) for column in columns)
    figure = pyplot.figure(figsize=(7.5 * len(columns), 0.27 * tallest + 0.6), layout="constrained")
    for part, column in zip(figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        axes = part.subplots(len(shown[column]), 1, squeeze=False, height_ratios=heights[column], sharex=True)
        for axis, (title, bars) in zip(axes[:, 0], shown[column], strict=True):
            names, shares, figures = zip(*bars, strict=True)
            colors = ["#c2571a" if name.startswith(NAMES[TIFFIN]) else "#8a9199" for name in names]
            drawn = axis.barh(range(len(bars)), shares, color=colors)
            axis.bar_label(drawn, figures, padding=4, fontsize=8)
            axis.set_yticks(range(len(bars)), names, fontsize=8)
            axis.set_title(title, fontsize=9, loc="left")
            axis.set_xlim(0, farthest)
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        f"speed, Tiffin = 1; {about['cores']} cores of {about['cpu']}, medians of {about['repetitions']}", fontsize=8
    )
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
