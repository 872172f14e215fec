"""Metrics with 95 % intervals, and pictures of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from models.model import Array
from training.artifact import Estimate, Evaluation

BINS = 15
RESAMPLES = 500


def share(hits: Array) -> Estimate:
    """Estimate the share of hits, bool (n,), with Wilson's interval (Wilson 1927)."""
    found = binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(method="wilson")
    return Estimate(found.statistic, interval.low, interval.high, len(hits))


def resampled(metric: Callable[..., float], *samples: Array) -> Estimate:
    """Estimate `metric` of paired samples (n, ...), with the bootstrap's percentile interval (Efron 1979)."""
    index = np.arange(len(samples[0]))

    def of(chosen: Array) -> float:
        return metric(*(sample[chosen] for sample in samples))

    interval = bootstrap((index,), of, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=0)
    low, high = interval.confidence_interval
    return Estimate(float(of(index)), float(low), float(high), len(index))


def f1(classes: Array, predicted: Array) -> float:
    """Return the harmonic mean of precision and recall of class 1; 0 if it is neither present nor predicted."""
    found = float((classes * predicted).sum())
    return 2 * found / max(float(classes.sum() + predicted.sum()), 1.0)


def area_under_roc(classes: Array, scores: Array) -> float:
    """Return the area under the receiver operating characteristic; 0.5 if a sample holds one class only."""
    return float(roc_auc_score(classes, scores)) if 0 < classes.sum() < len(classes) else 0.5


def calibration_error(confidence: Array, hits: Array) -> float:
    """Return the expected calibration error over 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    `confidence` is the winning label's probability, `hits` whether that label is right; both (n,).
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - hits, minlength=BINS)
    return float(abs(gaps).sum() / len(hits))


def evaluate_binary(classes: Array, probability: Array) -> Evaluation:
    """Evaluate probabilities (n,) of class 1 on classes 0 and 1 (n,): accuracy, F1, area under ROC, calibration."""
    predicted = (probability > 0.5).astype(np.int64)
    hits = predicted == classes
    confidence = np.maximum(probability, 1 - probability)
    metrics = {
        "accuracy": share(hits),
        "f1": resampled(f1, classes, predicted),
        "auc": resampled(area_under_roc, classes, probability),
        "calibration_error": resampled(calibration_error, confidence, hits),
    }
    auc = metrics["auc"].value
    return Evaluation(
        metrics, {"roc.png": draw_roc(classes, probability, auc), "reliability.png": draw_reliability(confidence, hits)}
    )


def evaluate_labels(classes: Array, probabilities: Array, labels: Sequence[str]) -> Evaluation:
    """Evaluate probabilities (n, labels) on the numbers of the right labels (n,): accuracy and calibration."""
    predicted = probabilities.argmax(1)
    hits = predicted == classes
    confidence = probabilities.max(1)
    metrics = {
        "accuracy": share(hits),
        "calibration_error": resampled(calibration_error, confidence, hits),
    }
    present = sorted({*classes.tolist(), *predicted.tolist()})
    pictures = {"reliability.png": draw_reliability(confidence, hits)}
    if len(present) <= 30:  # more would be too small to read
        counts = confusion_matrix(classes, predicted, labels=present)
        pictures["confusion.png"] = draw_confusion(counts, [labels[i] for i in present])
    return Evaluation(metrics, pictures)


def draw_roc(classes: Array, scores: Array, area: float) -> bytes:
    """Draw the receiver operating characteristic and return it as PNG."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    false, true, _ = roc_curve(classes, scores)
    axes.plot(false, true, label=f"area {area:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    axes.legend(loc="lower right")
    return png(figure)


def draw_reliability(confidence: Array, hits: Array) -> bytes:
    """Draw accuracy over confidence by bin, with the sizes of the bins below, and return it as PNG."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    means = [
        np.bincount(bins, weights=values, minlength=BINS)[filled] / counts[filled] for values in (confidence, hits)
    ]
    figure = Figure(figsize=(5, 5), layout="constrained")
    top, bottom = figure.subplots(2, height_ratios=[3, 1], sharex=True)
    top.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    top.plot(*means, marker="o", label=f"calibration error {calibration_error(confidence, hits):.3f}")
    top.set(ylabel="accuracy", title="Reliability")
    top.legend(loc="upper left")
    bottom.bar((np.arange(BINS) + 0.5) / BINS, counts, width=1 / BINS)
    bottom.set(xlabel="confidence", ylabel="examples")
    return png(figure)


def draw_confusion(counts: Array, labels: Sequence[str]) -> bytes:
    """Draw the confusion matrix, right labels down and predicted ones across, and return it as PNG."""
    side = 2 + 0.5 * len(labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="right", title="Confusion matrix")
    return png(figure)


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
