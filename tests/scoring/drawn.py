"""Rows to score, drawn by a seed: all notations, missing values, duplicates and bad rows; and what is expected of them.

The expected probabilities are computed in float64 from the coefficients in the model's graph, not by the server. Values
are known before they are written in a notation, so that no parser of ours is asked either.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadtest import inputs
from models.model import Array
from models.segmentation.columns import VARIABLES

CATEGORIES = {
    "x5": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "x31": ("america", "asia", "germany", "japan"),
    "x81": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
}
NUMBERS = ("x44", "x53", "x56", "x58", "x62", "x91")
MISSING, BAD, TWICE = 0.08, 0.01, 0.1
BAD_AMOUNTS = ("5,54.78", "$$5", "twelve", "$-5-", "(66.55", "1e3", "$5,547.78 USD")


class Customer(NamedTuple):
    """A row as it is written, what its numbers and categories are, and whether it is good."""

    row: dict[str, Any]
    values: dict[str, Any]
    is_good: bool


def amount(draw: np.random.Generator, value: float) -> str:
    """Write dollars in one of the notations."""
    sign, size = "-" if value < 0 else "", abs(value)
    forms = [
        f"${value:,.2f}",
        f"{sign}${size:,.2f}",
        f"{value}",
        f"{value:,.2f}",
        f"  ${value:,.2f} ",
        f"{sign}${size:.2f}",
    ]
    if value < 0:
        forms += [f"({size:,.2f})", f"(${size:,.2f})", f"$({size:.2f})"]
    return str(draw.choice(forms))


def customer(draw: np.random.Generator) -> Customer:
    """Draw a customer."""
    row: dict[str, Any] = {"x0": float(draw.normal()), "x63": "36.29%"}
    values: dict[str, Any] = {}
    for name, known in CATEGORIES.items():
        values[name] = str(draw.choice(known))
        row[name] = str(draw.choice([values[name], f" {values[name]}", f"{values[name]} \t"]))
    for name in CATEGORIES:
        if draw.random() < MISSING:
            row[name] = (None, "", "elsewhere", values[name].upper())[int(draw.integers(4))]
            values[name] = ""
    for name in NUMBERS:
        row[name] = values[name] = round(float(draw.normal()), int(draw.integers(0, 12)))
    values["x12"] = round(float(draw.choice([draw.normal(0, 3_000), draw.normal(0, 50)])), 2)
    row["x12"] = amount(draw, values["x12"])
    for name in (*NUMBERS, "x12"):
        if draw.random() < MISSING:
            row[name] = None
            values[name] = math.nan
    is_good = bool(draw.random() >= BAD)
    if not is_good:
        row["x12"] = str(draw.choice(BAD_AMOUNTS))
    return Customer(row, values, is_good)


def customers(rows: int, seed: int) -> list[Customer]:
    """Draw customers, some of them twice."""
    draw = np.random.default_rng(seed)
    found: list[Customer] = []
    while len(found) < rows:
        found.append(found[draw.integers(len(found))] if found and draw.random() < TWICE else customer(draw))
    return found


def tumours(rows: int) -> tuple[list[dict[str, Any]], set[int]]:
    """Draw rows of breast_cancer, and tell which are bad: a number is negative or missing in some."""
    draw = np.random.default_rng(5)
    found: list[dict[str, Any]] = [inputs.tumour(number % 9_000) for number in range(rows)]
    negative = {
        int(place): float(draw.choice([-1.0, -1e-9])) for place in draw.choice(rows, rows // 100, replace=False)
    }
    for place, value in negative.items():
        found[place] = found[place] | {"area_se": value}
    missing = {int(place) for place in draw.choice(rows, rows // 200, replace=False)} - negative.keys()
    for place in missing:
        found[place] = found[place] | {"texture_worst": None}
    return found, negative.keys() | missing


def texts(rows: int) -> list[str | None]:
    """Draw texts, many of them several times, and one in a hundred bad: empty, too long or missing."""
    draw = np.random.default_rng(6)
    found: list[str | None] = [inputs.text(int(number)) for number in draw.integers(0, 400, rows)]
    for place in draw.choice(rows, rows // 100, replace=False).tolist():
        found[place] = ["", "a" * 10_001, None][place % 3]
    return found


def pictures() -> list[bytes]:
    """Return files of pictures, one twice, and some that are none."""
    return [*inputs.pictures(), inputs.pictures()[0], b"no picture", b"", inputs.pictures()[1][:500]]


def expected(drawn: list[Customer], graph: Path) -> Array:
    """Return the probability float64 of each customer by the coefficients in a graph."""
    import onnx  # which the environment of Spark lacks

    model = onnx.load(graph)
    nodes = {node.op_type: {entry.name: entry for entry in node.attribute} for node in model.graph.node}
    indices = [onnx.numpy_helper.to_array(weight).ravel() for weight in model.graph.initializer]
    order = np.concatenate(indices)

    def numbers(operator: str, name: str) -> Array:
        return np.array(nodes[operator][name].floats, dtype=np.float64)

    matrix = np.array([[variable(name, each.values) for name in VARIABLES] for each in drawn], dtype=np.float64)
    count = len(indices[0])
    scaled = matrix[:, order]
    filled = np.where(np.isnan(scaled[:, :count]), numbers("Imputer", "imputed_value_floats"), scaled[:, :count])
    scaled[:, :count] = (filled - numbers("Scaler", "offset")) * numbers("Scaler", "scale")
    coefficients = numbers("LinearClassifier", "coefficients").reshape(2, -1)[1]
    intercept = numbers("LinearClassifier", "intercepts")[1]
    probability: Array = 1 / (1 + np.exp(-(scaled @ coefficients + intercept)))
    return probability


def variable(name: str, values: dict[str, Any]) -> float:
    """Return a variable of the GLM: a number, or whether a column has this category."""
    column, _, category = name.partition("_")
    return float(values[column]) if not category else float(values[column] == category)
