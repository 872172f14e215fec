"""Metrics, compared with published values."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import (
    area_under_roc,
    calibration_error,
    evaluate_binary,
    evaluate_labels,
    f1,
    resampled,
    share,
)


def test_wilsons_interval_of_a_share() -> None:
    estimate = share(np.array([True] * 81 + [False] * 182))
    # The example of Newcombe 1998, table I: 81 of 263.
    assert estimate.value == pytest.approx(0.3080, abs=1e-4)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert estimate.examples == 263


def test_the_area_under_roc_counts_pairs_in_the_right_order() -> None:
    assert area_under_roc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == pytest.approx(0.75)
    assert area_under_roc(np.array([1, 1]), np.array([0.1, 0.4])) == 0.5


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    assert f1(np.array([1, 1, 1, 0]), np.array([1, 1, 0, 1])) == pytest.approx(2 / 3)
    assert f1(np.zeros(3), np.zeros(3)) == 0


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy_by_bin() -> None:
    confidence, hits = np.array([0.9] * 10 + [0.6] * 10), np.array([1] * 7 + [0] * 3 + [1] * 6 + [0] * 4)
    assert calibration_error(confidence, hits) == pytest.approx((0.2 * 10 + 0.0 * 10) / 20)
    assert calibration_error(np.ones(4), np.ones(4)) == 0


def test_an_interval_narrows_with_the_sample() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (resampled(lambda x: float(x.mean()), rng.normal(size=n)) for n in (100, 10_000))
    assert wide.low < wide.value < wide.high
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 / 100, rel=0.2)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5


def test_two_labels_get_a_roc_and_a_reliability_diagram() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(500)
    found = evaluate_binary((rng.random(500) < probability).astype(int), probability)
    assert set(found.metrics) == {"accuracy", "f1", "auc", "calibration_error"}
    assert found.metrics["auc"].value == pytest.approx(5 / 6, abs=0.05)  # of uniform, calibrated probabilities
    assert found.metrics["calibration_error"].value < 0.07
    assert set(found.pictures) == {"roc.png", "reliability.png"}
    assert all(picture.startswith(b"\x89PNG") for picture in found.pictures.values())


def test_many_labels_get_a_confusion_matrix_unless_it_would_be_unreadable() -> None:
    rng = np.random.default_rng(0)
    for labels, pictures in ((5, {"reliability.png", "confusion.png"}), (200, {"reliability.png"})):
        probabilities = rng.dirichlet(np.ones(labels), 400)
        found = evaluate_labels(probabilities.argmax(1), probabilities, [str(i) for i in range(labels)])
        assert found.metrics["accuracy"].value == 1
        assert set(found.pictures) == pictures
