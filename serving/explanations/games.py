"""The games whose players are parts of an item: without some of them it is another item."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from models.model import Array, Columns, Model

WORD = re.compile(r"\S+")


class Game(Protocol):
    """An item's parts as players. A coalition is the item without the others, whose place a reference takes."""

    @property
    def players(self) -> int:
        """How many parts there are."""

    @property
    def references(self) -> int:
        """How many references there are."""

    def items(self, coalitions: Array, references: Array) -> Collection[Any]:
        """Return the items of coalitions, bool (n, players), each beside a reference of this index, int (n,)."""


def words(text: str) -> list[tuple[int, int]]:
    """Return the spans of the words of a text, of which white space is between."""
    return [match.span() for match in WORD.finditer(text)]


def groups(spans: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Join neighbouring spans into `count` spans of about as many words each."""
    edges = [len(spans) * place // count for place in range(count + 1)] if count else []
    return [(spans[start][0], spans[end - 1][1]) for start, end in pairwise(edges)]


class Words:
    """Spans of a text as players; the only reference is the empty text. White space goes with the span before it."""

    references = 1

    def __init__(self, text: str, spans: Sequence[tuple[int, int]]) -> None:
        starts = [0, *(start for start, _ in spans[1:]), len(text)]
        self.pieces = [text[start:end] for start, end in pairwise(starts)]
        self.players = len(spans)

    def items(self, coalitions: Array, references: Array) -> list[str]:
        """Return the texts of the spans of each coalition."""
        return [
            "".join(piece for piece, kept in zip(self.pieces, row, strict=True) if kept) for row in coalitions.tolist()
        ]


class Row:
    """The columns of a row as players; references are background rows, with the values of the columns left out.

    `row` and `background` hold checked input columns, of one row and of several.
    """

    def __init__(self, model: type[Model[Any]], row: Columns, background: Mapping[str, Array]) -> None:
        self.model = model
        self.row = row
        self.background = background
        self.names = list(row)
        self.players = len(self.names)
        self.references = len(next(iter(background.values())))

    def items(self, coalitions: Array, references: Array) -> Collection[Any]:
        """Return the rows of coalitions as items."""
        mixed = {
            name: np.where(kept, self.row[name], self.background[name][references])
            for name, kept in zip(self.names, coalitions.T, strict=True)
        }
        return self.model.items(mixed)
