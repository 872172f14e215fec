"""Segmentation: a GLM fitted on rows drawn from its published figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from models.model import Array, check
from models.segmentation.columns import INPUTS, NUMERIC, THRESHOLD, VARIABLES, features
from training.artifact import (
    Artifact,
    Data,
    Evaluation,
    ProgressCallback,
    TrainingError,
    check_labels,
    check_probabilities,
    digest,
)
from training.evaluation import evaluate_binary
from training.explanation import Term, check_terms, linear_terms
from training.export import sklearn_to_onnx
from training.served import Served, serve

FIGURES = json.loads((Path(__file__).parent / "glm26.json").read_text(encoding="utf-8"))
ROWS = 40_000
MISSING = 0.05
# Shares of x31's categories (america, asia, germany, japan, none), which are not published: they yield the published
# share of class 1 (0.4976) and standard errors of the coefficients.
X31_SHARES = (0.05, 0.27, 0.31, 0.06, 0.31)


def draw(rows: int, seed: int) -> tuple[dict[str, Array], Array]:
    """Draw raw columns x0 to x99 as clients send them, 5 % of the values missing, and classes int64 (rows,).

    Classes are drawn with the probabilities that the published GLM gives to the rows. The published deviations were
    taken after imputation, which narrows them, so values are drawn wider by as much.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, Array] = {}
    values: dict[str, Array] = {}
    for name, figure in FIGURES["numeric"].items():
        z = rng.standard_normal(rows) / np.sqrt(1 - MISSING)
        missing = rng.random(rows) < MISSING
        raw = np.round(figure["mean"] + figure["std"] * z, 6)
        cells = [None if gone else as_text(name, x) for gone, x in zip(missing, raw.tolist(), strict=True)]
        columns[name] = np.array(cells, dtype=object)
        values[name] = np.where(missing, 0.0, z)
    for name, categories in FIGURES["categorical"].items():
        shares = X31_SHARES if name == "x31" else None
        drawn = rng.choice(np.array(categories, dtype=object), rows, p=shares)
        drawn[rng.random(rows) < MISSING] = None
        columns[name] = drawn
    logit = np.zeros(rows)
    for variable, figure in FIGURES["coefficients"].items():
        name, _, category = variable.partition("_")
        column = columns[name] == category if category else values[name]
        logit += figure["coef"] * column
    classes = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return columns, classes


def as_text(name: str, value: float) -> float | str:
    """Return the value as clients write it in this column: as money, percent or a number."""
    if name == "x12":
        return f"${value:,.2f}" if value >= 0 else f"$-{-value:,.2f}"
    if name == "x63":
        return f"{value:.2f}%"
    return value


def pipeline() -> Pipeline:
    """Return the estimator: imputes and standardises numbers, then a regression without penalty or intercept."""
    numeric = [VARIABLES.index(name) for name in NUMERIC]
    prepare = ColumnTransformer(
        [("numeric", Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())]), numeric)],
        remainder="passthrough",
    )
    glm = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=1_000)
    return Pipeline([("prepare", prepare), ("glm", glm)])


def terms(fitted: Pipeline) -> dict[str, bytes]:
    """Return the file with the fitted terms, from which explanations are made."""
    scaler = fitted["prepare"].named_transformers_["numeric"]["scale"]
    means, scales = (dict(zip(NUMERIC, figures.tolist(), strict=True)) for figures in (scaler.mean_, scaler.scale_))
    found = coefficients(fitted)
    return linear_terms(
        0.0, [Term(name, found[name], means.get(name, 0.0), scales.get(name, 1.0)) for name in VARIABLES]
    )


def coefficients(fitted: Pipeline) -> dict[str, float]:
    """Return the fitted coefficients by variable."""
    order = [*NUMERIC, *(name for name in VARIABLES if name not in NUMERIC)]
    return dict(zip(order, fitted["glm"].coef_[0].tolist(), strict=True))


def check_coefficients(fitted: dict[str, float]) -> float:
    """Return the largest distance to a published coefficient in standard errors; raise TrainingError if over 4."""
    distances = {
        name: abs(fitted[name] - figure["coef"]) / figure["std_err"] for name, figure in FIGURES["coefficients"].items()
    }
    worst = max(distances, key=distances.__getitem__)
    if distances[worst] > 4:
        raise TrainingError(f"coefficient {worst} is {distances[worst]:.1f} standard errors from the published one")
    return float(distances[worst])


def train(data: Path | None, report: ProgressCallback, rows: int = ROWS) -> Artifact:
    """Draw rows, fit, export and compare; `data` is ignored.

    Raises TrainingError if coefficients or AUC are not the published ones.
    """
    if set(FIGURES["coefficients"]) != set(VARIABLES):
        raise TrainingError("glm26.json and models/segmentation name different variables")
    report("drawing rows", 0.0)
    columns, classes = draw(rows, seed=26)
    matrix = features(check(columns, INPUTS))
    report("fitting", 0.5)
    fitted = pipeline().fit(matrix, classes)
    worst = check_coefficients(coefficients(fitted)) if rows >= ROWS else float("nan")
    report("exporting", 0.8)
    graph = sklearn_to_onnx(fitted, len(VARIABLES), "probabilities")
    report("evaluating", 0.9)
    test_matrix, _ = test_rows()
    original = fitted.predict_proba(test_matrix)[:, 1]
    explanation = terms(fitted)
    with serve("segmentation", graph, explanation) as served:
        exported = served.outputs(test_matrix)[:, 1]
        evaluation = evaluate(served)
        differing = check_terms(served, test_matrix, fitted.decision_function(test_matrix))
    auc = evaluation.metrics["auc"].value
    if rows >= ROWS and abs(auc - 0.80) > 0.01:
        raise TrainingError(f"AUC {auc:.3f} is not 0.80 within 0.01")
    return Artifact(
        graph=graph,
        framework="scikit-learn logistic regression",
        labels=["0", "1"],
        data=Data(
            "marketing segmentation",
            "drawn from the published figures in training/segmentation/glm26.json",
            "drawn here, free to use",
            rows,
            digest([matrix.tobytes(), classes.tobytes()]),
        ),
        summary="Tells how likely a customer is to buy, from 10 of the 100 columns that clients send.",
        procedure=(
            "Logistic regression without penalty or intercept on imputed and standardised columns; each coefficient "
            f"lies within {worst:.1f} standard errors of the published one."
        ),
        limits=[
            "Fitted on rows drawn from published figures, not on the customers themselves.",
            "Its columns are drawn independently of each other, which those of customers are not.",
        ],
        evaluation=evaluation,
        parity=check_labels(original > THRESHOLD, exported > THRESHOLD)
        | check_probabilities(original, exported)
        | {"largest_coefficient_z": worst, "terms_largest_difference": differing},
        files=explanation,
    )


def samples() -> Array:
    """Return the rows that graphs are compared on, float32 (10 000, 25)."""
    return test_rows()[0]


def test_rows() -> tuple[Array, Array]:
    """Draw rows that are never fitted on: features float32 (10 000, 25) and classes int64 (10 000,)."""
    columns, classes = draw(ROWS // 4, seed=27)
    return features(check(columns, INPUTS)), classes


def evaluate(served: Served, data: Path | None = None) -> Evaluation:
    """Evaluate on rows that are never fitted on; `data` is ignored."""
    matrix, classes = test_rows()
    return evaluate_binary(classes, served.outputs(matrix)[:, 1])
