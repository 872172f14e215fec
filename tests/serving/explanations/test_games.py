"""The parts of texts and rows, and the items without some of them."""

from __future__ import annotations

import numpy as np
import pytest

from models.breast_cancer import BreastCancer
from serving.explanations.games import Row, Words, groups, words

TEXT = "  not  bad,\tat all\n"


def kept(text: str, count: int, *rows: list[bool]) -> list[str]:
    """Return the texts of coalitions of the words of a text, joined to so many spans."""
    return Words(text, groups(words(text), count)).items(np.array(rows), np.zeros(len(rows), int))


def test_words_are_what_stands_between_white_space() -> None:
    assert [TEXT[start:end] for start, end in words(TEXT)] == ["not", "bad,", "at", "all"]
    assert words(" \n") == []


def test_all_words_together_are_the_text_as_it_was_sent_and_none_are_the_empty_text() -> None:
    assert kept(TEXT, 4, [True] * 4, [False] * 4) == [TEXT, ""]


def test_without_a_word_the_others_stay_as_they_are() -> None:
    assert kept(TEXT, 4, [True, False, True, True]) == ["  not  at all\n"]


def test_many_words_are_joined_to_spans_of_neighbours() -> None:
    text = " ".join(map(str, range(10)))
    assert [text[start:end] for start, end in groups(words(text), 4)] == ["0 1", "2 3 4", "5 6", "7 8 9"]
    assert kept(text, 4, [False, True, False, True]) == ["2 3 4 7 8 9"]


def test_in_a_row_the_columns_left_out_are_those_of_the_background_row() -> None:
    names = [column.name for column in BreastCancer.inputs]
    row = {name: np.array([float(i)]) for i, name in enumerate(names)}
    background = {name: np.array([10.0 * (i + 1), 100.0 * (i + 1)]) for i, name in enumerate(names)}
    game = Row(BreastCancer, row, background)
    coalitions = np.array([[True] * 6, [False] * 6, [True, False] * 3])
    found = np.asarray(game.items(coalitions, np.array([0, 1, 1])))
    assert found.tolist() == [[0, 1, 2, 3, 4, 5], [100, 200, 300, 400, 500, 600], [0, 200, 2, 400, 4, 600]]
    assert (game.players, game.references, game.names) == (6, 2, names)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_spans_cover_every_word_once(count: int) -> None:
    text = "word " * 200
    found = groups(words(text), count)
    assert len(found) == count
    assert sum(len(words(text[start:end])) for start, end in found) == 200
