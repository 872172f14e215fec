"""The requirement files agree with each other, and serving's lock with its source."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT

FOLDER = ROOT / "requirements"
# Files of separate environments may have other pins.
SHARED = ("benchmarks", "development", "image", "locust", "no-deps", "scoring", "serving", "training")


def pins(file: str) -> dict[str, str]:
    """Return the pinned versions, by normalized name."""
    lines = (FOLDER / file).read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([\w.-]+)==([^\s;\\]+)", line) for line in lines]
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match}


def test_the_lock_pins_what_serving_needs() -> None:
    serving, lock = pins("serving.txt"), pins("serving.lock")
    assert {name: lock.get(name) for name in serving} == serving, "serving.lock is outdated: make lock"


def test_the_lock_has_hashes_for_every_package_and_markers_for_what_serving_does_not_name() -> None:
    text = (FOLDER / "serving.lock").read_text(encoding="utf-8")
    for name, line, hashes in re.findall(
        r"^([\w.-]+)==([^\n]*)\n((?:    --hash=sha256:[0-9a-f]{64}.*\n?)*)", text, re.M
    ):
        assert hashes, name
        if re.sub(r"[-_.]+", "-", name).lower() not in pins("serving.txt"):
            assert ";" in line, f"{name} is needed everywhere, but serving.txt does not pin it"


def test_serving_is_pinned_without_hashes() -> None:
    assert "--hash" not in (FOLDER / "serving.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHARED)
def test_no_other_file_of_the_same_environment_wants_another_version(name: str) -> None:
    for other in SHARED:
        both = pins(f"{name}.txt").keys() & pins(f"{other}.txt").keys()
        assert {key: pins(f"{name}.txt")[key] for key in both} == {key: pins(f"{other}.txt")[key] for key in both}


def test_spark_has_the_versions_of_scoring() -> None:
    spark, scoring = pins("spark.txt"), pins("serving.txt") | pins("scoring.txt")
    both = spark.keys() & scoring.keys()
    assert "onnxruntime" in both
    assert {name: spark[name] for name in both} == {name: scoring[name] for name in both}
