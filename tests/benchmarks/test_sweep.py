"""The sweep: which settings it measures, and what it writes."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from benchmarks.sweep import Choice, ChoiceResult, choices, write


def asked(**lists: list[float]) -> argparse.Namespace:
    given = {"cores": [2], "workers": [1], "session_threads": [1], "max_batch": [8], "linger": [0.002]}
    return argparse.Namespace(**given | lists)


def test_every_combination_is_measured() -> None:
    found = list(choices(asked(max_batch=[4, 8], linger=[0.0, 0.01])))
    assert found == [Choice(2, 1, 1, batch, linger) for batch in (4, 8) for linger in (0.0, 0.01)]


def test_no_more_threads_than_two_for_a_core() -> None:
    found = choices(asked(cores=[1, 2], workers=[1, 2], session_threads=[1, 2]))
    assert [(c.cores, c.workers, c.session_threads) for c in found] == [
        (1, 1, 1),
        (1, 1, 2),
        (1, 2, 1),
        (2, 1, 1),
        (2, 1, 2),
        (2, 2, 1),
        (2, 2, 2),
    ]


def test_results_are_written_as_table_and_picture(tmp_path: Path) -> None:
    write([ChoiceResult(Choice(2, 1, 2, 8, 0.002), 500.0, 0.25, 1.0, 0.5)], "sentiment", tmp_path)
    with (tmp_path / "sweep-sentiment.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["max_batch"], row["ratio"], row["p99_ratio"]) == ("8", "1", "0.5")
    assert (tmp_path / "sweep-sentiment.png").read_bytes().startswith(b"\x89PNG")
