"""Breast cancer: a majority vote of three classifiers, fitted on scikit-learn's bundled data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from models.breast_cancer import FEATURES, LABELS, BreastCancer
from models.model import Array
from training.artifact import Artifact, Data, Evaluation, ProgressCallback, TrainingError, check_labels, digest
from training.evaluation import evaluate_binary
from training.explanation import background
from training.export import sklearn_to_onnx
from training.served import Served, serve

# Names of the six features in scikit-learn's data.
COLUMNS = {
    "concavity_mean": "mean concavity",
    "concave_points_mean": "mean concave points",
    "perimeter_se": "perimeter error",
    "area_se": "area error",
    "texture_worst": "worst texture",
    "area_worst": "worst area",
}
SEED = 0


def read() -> tuple[Array, Array]:
    """Return features float32 (569, 6) in the order of the schema and classes int64 (569,), of which 1 is malignant."""
    bunch = load_breast_cancer()
    names = list(bunch.feature_names)
    matrix = bunch.data[:, [names.index(COLUMNS[feature]) for feature in FEATURES]].astype(np.float32)
    return matrix, (1 - bunch.target).astype(np.int64)  # there 0 is malignant


def samples() -> Array:
    """Return the rows that graphs are compared on, float32 (569, 6)."""
    return read()[0]


def pipeline() -> Pipeline:
    """Return the estimator: imputes, scales to 0..1 and takes the majority of three seeded classifiers."""
    vote = VotingClassifier(
        [
            ("regression", LogisticRegression(random_state=SEED)),
            ("tree", DecisionTreeClassifier(max_depth=4, random_state=SEED)),
            # skl2onnx votes for the class of each classifier's highest score, which is the wrong one for a bare SVC.
            ("svm", CalibratedClassifierCV(SVC(random_state=SEED), ensemble=False)),
        ],
        voting="hard",
        flatten_transform=False,  # all that skl2onnx can convert; for labels it makes no difference
    )
    return Pipeline([("impute", SimpleImputer()), ("scale", MinMaxScaler()), ("vote", vote)])


def split() -> list[Array]:
    """Return the features to fit on and those of the held-out fifth, then the classes of both."""
    matrix, classes = read()
    parts: list[Array] = train_test_split(matrix, classes, test_size=0.2, stratify=classes, random_state=SEED)
    return parts


def train(data: Path | None, report: ProgressCallback) -> Artifact:
    """Fit on four fifths of the bundled data and evaluate on the others; `data` is ignored.

    Raises TrainingError if the accuracy is under 0.93 or the example is not classified as malignant.
    """
    matrix, classes = read()
    report("fitting", 0.0)
    fit_x, _, fit_y, _ = split()
    fitted = pipeline().fit(fit_x, fit_y)
    report("exporting", 0.5)
    graph = sklearn_to_onnx(fitted, len(FEATURES), "label")
    report("evaluating", 0.9)
    with serve("breast_cancer", graph, {}) as served:
        exported = served.outputs(matrix)
        evaluation = evaluate(served)
        example = LABELS[int(served.outputs(BreastCancer.example_items())[0])]
    accuracy = evaluation.metrics["accuracy"].value
    if accuracy < 0.93:
        raise TrainingError(f"accuracy {accuracy:.3f} on the held-out fifth is under 0.93")
    if example != "M":
        raise TrainingError("the example row is not classified as malignant")
    return Artifact(
        graph=graph,
        framework="scikit-learn voting classifier",
        labels=list(LABELS),
        data=Data(
            "Breast Cancer Wisconsin (Diagnostic)",
            "sklearn.datasets.load_breast_cancer",
            "CC BY 4.0",
            len(matrix),
            digest([matrix.tobytes(), classes.tobytes()]),
        ),
        summary="Tells whether a tumour is malignant (M) or benign (B), from six measurements of its cells.",
        procedure="Majority of a logistic regression, a decision tree and a support vector machine, on scaled columns.",
        limits=[
            "Fitted on 455 tumours of one hospital; no medical device.",
            "Answers a label without a probability: its ROC has one point, its calibration is that of certainty.",
        ],
        evaluation=evaluation,
        parity=check_labels(fitted.predict(matrix), exported),
        files=background(BreastCancer, fit_x),
    )


def evaluate(served: Served, data: Path | None = None) -> Evaluation:
    """Evaluate on the held-out fifth; `data` is ignored."""
    _, test_x, _, test_y = split()
    return evaluate_binary(test_y, served.outputs(test_x))
