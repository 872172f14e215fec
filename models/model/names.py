"""The names of columns as clients write them: in capitals, with spaces around them, or as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from models.model.columns import Array, Column

# Those that are not seen, too: of no width, and byte order marks.
SPACES = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]++")
# Longest name that is looked at.
MAX_CHARACTERS = 200
# What is shorter is looked through by a regular expression, in less time than numpy takes to begin.
SHORT_BYTES = 2**12


class ColumnNames:
    """The names of a model's input columns."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = {column.name: column for column in columns}
        self.by_plain = {plain(name): name for name in self.columns}
        # Bytes with which a name that is meant for one of them may begin, and those that no name of ours has.
        self.starts = np.zeros(256, dtype=np.bool_)
        self.starts[[*range(ord(" ") + 1), ord("\\"), *range(128, 256)]] = True
        for name in self.columns:
            self.starts[[*(name[:1].lower() + name[:1].upper()).encode()]] = True
        usual = set("".join(self.by_plain).encode())
        self.odd = np.array([byte not in usual for byte in range(256)])
        self.longest = max(map(len, self.by_plain))
        # The same for short texts: a string that begins so, has such a byte, and is followed by a colon or a space.
        begins, named = map(escaped, (self.starts, ~self.odd))
        self.odd_name = re.compile(rb'"(?=[%b])[%b]*+[^%b"][^"]*+"[\x00-\x20:]' % (begins, named, named))

    def find(self, name: str) -> str | None:
        """Return the column that a name stands for, whatever its case and the spaces in it; None for other names."""
        if name in self.columns:
            return name
        return self.by_plain.get(plain(name)) if len(name) <= MAX_CHARACTERS else None

    def positions(self, names: Iterable[str]) -> dict[str, int]:
        """Return the positions of the columns that the model reads; ValueError for one that stands twice."""
        found: dict[str, int] = {}
        for position, name in enumerate(names):
            column = self.find(name)
            if column is not None and self.columns[column].used:
                if column in found:
                    raise ValueError(f"two columns are named {column}, but for case or spaces")
                found[column] = position
        return found

    def count(self, names: Iterable[str]) -> int:
        """Count the names that are those of columns."""
        return sum(self.find(name) is not None for name in names)

    def has_odd_names(self, text: bytes) -> bool:
        """Return whether JSON text may hold a column's name in capitals or with spaces around it.

        Fast and, for long texts, without the interpreter's lock, since decoders know exact names only. Some other names
        are taken for odd ones too.
        """
        text = without_escapes(text)
        if len(text) <= SHORT_BYTES:
            return self.odd_name.search(text) is not None
        letters: Array = np.frombuffer(text, np.uint8)
        quotes = np.flatnonzero(letters == ord('"'))
        opening, closing = quotes[:-1:2], quotes[1::2]
        after = letters[np.minimum(closing + 1, len(letters) - 1)]
        keys = ((after == ord(":")) | (after <= ord(" "))) & self.starts[letters[opening + 1]]
        opening, closing = opening[keys], closing[keys]
        if not len(opening):
            return False
        # Of the names that are as short as ours one byte after the other, then all of the longer ones.
        short = closing - opening - 1 <= self.longest
        start, last = opening[short] + 1, closing[short] - 1
        for place in range(self.longest):
            if self.odd[letters[np.minimum(start + place, last)]].any():
                return True
        if short.all():
            return False
        # One after the other, where each name begins and ends: what is summed up between names is passed over.
        ends = np.stack([opening[~short] + 1, closing[~short]], axis=1).ravel()
        return bool(np.logical_or.reduceat(self.odd[letters], ends)[::2].any())


def escaped(chosen: Array) -> bytes:
    """Return the bytes at whose place `chosen` (256,) is true, as a regular expression writes them."""
    return b"".join(rb"\x%02x" % byte for byte in np.flatnonzero(chosen).tolist())


def plain(name: str) -> str:
    """Return a name in small letters, without spaces."""
    return SPACES.sub("", name).casefold()


def without_escapes(text: bytes) -> bytes:
    """Return JSON text of the same length in which every quotation mark begins or ends a string."""
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in text else text
