"""Read the dashboard's panels, and draw them from the data of a Prometheus.

Run as `python -m tests.e2e.dashboard --prometheus http://localhost:9090 --minutes 10 dashboard.png`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = ROOT / "k8s" / "components" / "monitoring" / "dashboard.json"
POINTS = 240
COLUMNS = 24
COLUMN_INCHES, ROW_INCHES = 0.62, 0.33
GREY = "#f4f5f5"
SUFFIXES = {"s": "s", "bytes": "B", "Bps": "B/s", "reqps": "/s", "ops": "/s"}

Labels = dict[str, str]


@dataclass(frozen=True)
class Series:
    """Values over time, without those that are not a number."""

    labels: Labels
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Target:
    """An expression with its variables replaced, and the template of its legend."""

    expression: str
    legend: str

    def name(self, labels: Labels) -> str:
        """Return a series' name in the legend."""
        return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), self.legend).strip()


class Place(NamedTuple):
    """A panel's place in the dashboard's grid."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Panel:
    """A panel; `texts` replace some values."""

    title: str
    kind: str
    unit: str
    place: Place
    targets: list[Target]
    texts: dict[str, str]


class Prometheus:
    """A client of a Prometheus."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=f"{address}/api/v1", timeout=30)

    def ask(self, path: str, **parameters: str | float) -> Any:
        """Return the data of a response; raise AssertionError if it is an error."""
        content = self.client.get(path, params=parameters).json()
        assert content["status"] == "success", f"{parameters}: {content}"
        return content["data"]

    def series(self, expression: str, start: float, end: float) -> list[Series]:
        """Return the series of an expression between two times."""
        step = max((end - start) / POINTS, 1)
        found = []
        for one in self.ask("/query_range", query=expression, start=start, end=end, step=step)["result"]:
            points = [(moment, float(value)) for moment, value in one["values"] if math.isfinite(float(value))]
            if points:
                times, values = zip(*points, strict=True)
                found.append(Series(one["metric"], list(times), list(values)))
        return found

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.ask("/alerts")["alerts"] if alert["state"] == "firing"}


def panels(rate_interval: str) -> list[Panel]:
    """Return the dashboard's panels, with the variable for the namespace set to all."""
    found = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        targets = [
            Target(
                target["expr"].replace("$__rate_interval", rate_interval).replace("$namespace", ".*"),
                target.get("legendFormat", ""),
            )
            for target in panel.get("targets", [])
        ]
        field = panel.get("fieldConfig", {}).get("defaults", {})
        mappings = [mapping["options"].items() for mapping in field.get("mappings", [])]
        texts = {value: shown["text"] for options in mappings for value, shown in options}
        place = Place(**panel["gridPos"])
        found.append(Panel(panel["title"], panel["type"], field.get("unit", ""), place, targets, texts))
    return found


def text(value: float, panel: Panel) -> str:
    """Return a value as the panel shows it."""
    if f"{value:g}" in panel.texts:
        return panel.texts[f"{value:g}"]
    if panel.unit == "percentunit":
        return f"{value:.3g} %" if (value := 100 * value) else "0 %"
    value = float(f"{value:.3g}")
    return EngFormatter(SUFFIXES[panel.unit], sep=" ")(value).strip() if panel.unit in SUFFIXES else f"{value:g}"


def draw(prometheus: Prometheus, shown: Sequence[Panel], start: float, end: float, file: Path) -> None:
    """Write a PNG of the panels, laid out as in the dashboard."""
    mpl.rcParams.update({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False})
    rows = max(panel.place.y + panel.place.h for panel in shown)
    figure = Figure(figsize=(COLUMNS * COLUMN_INCHES, rows * ROW_INCHES), dpi=80, facecolor=GREY)
    for panel in shown:
        # Inches from the upper left corner.
        x, y = panel.place.x * COLUMN_INCHES, panel.place.y * ROW_INCHES
        w, h = panel.place.w * COLUMN_INCHES, panel.place.h * ROW_INCHES

        def add_axes(left: float, top: float, width: float, height: float) -> Axes:
            across, down = COLUMNS * COLUMN_INCHES, rows * ROW_INCHES
            return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))

        background = add_axes(x + 0.03, y + 0.03, w - 0.06, h - 0.06)
        color = GREY if panel.kind == "row" else "white"
        background.set(xlim=(0, w), ylim=(h, 0), xticks=[], yticks=[], facecolor=color)
        background.spines[:].set_visible(False)
        background.text(0.08, 0.17, panel.title, weight="bold", va="center", size=9 if panel.kind == "row" else 7)
        if panel.kind == "timeseries":
            draw_lines(add_axes(x + 0.6, y + 0.3, w - 0.75, h - 1.0), prometheus, panel, start, end)
        elif panel.kind == "stat":
            values = [text(one.values[-1], panel) for one in series_of(panel, prometheus, start, end).values()]
            background.text(w / 2, h * 0.6, values[0] if values else "no data", size=15, ha="center", va="center")
        elif panel.kind == "table":
            lines = [f"{name}: {one.values[-1]:g}" for name, one in series_of(panel, prometheus, start, end).items()]
            background.text(0.08, 0.4, "\n".join(lines), va="top", linespacing=2)
    with io.BytesIO() as png:
        figure.savefig(png, format="png")
        # Few colours keep the file small.
        Image.open(png).convert("RGB").quantize(64).save(file, optimize=True)


def series_of(panel: Panel, prometheus: Prometheus, start: float, end: float) -> dict[str, Series]:
    """Return a panel's series by their names in the legend, or else in the table."""
    return {
        target.name(one.labels) or " ".join(one.labels.values()): one
        for target in panel.targets
        for one in prometheus.series(target.expression, start, end)
    }


def draw_lines(axes: Axes, prometheus: Prometheus, panel: Panel, start: float, end: float) -> None:
    """Draw a line for each series of a panel."""
    highest = 0.0
    for name, one in series_of(panel, prometheus, start, end).items():
        highest = max(highest, *one.values)
        axes.plot([(moment - end) / 60 for moment in one.times], one.values, lw=1, label=name)
    axes.set(xlim=((start - end) / 60, 0), ylim=(0, 1.05 * highest or 1))
    axes.grid(axis="y", color="#e5e5e5", lw=0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:g} min")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value, panel)))
    if axes.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.12), fontsize=6, frameon=False, ncols=3)


def main() -> None:
    """Draw the last minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate-interval", default="1m")
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    end = time.time()
    start = end - 60 * arguments.minutes
    draw(Prometheus(arguments.prometheus), panels(arguments.rate_interval), start, end, arguments.file)


if __name__ == "__main__":
    main()
