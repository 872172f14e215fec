"""Offline scoring: Arrow record batches and files of rows answered by a model, without a server."""

from scoring.engine import ColumnsError, Scored, Scorer, open_scorer, score
from scoring.entries import Entry, EntryError, find_entry

__all__ = ["ColumnsError", "Entry", "EntryError", "Scored", "Scorer", "find_entry", "open_scorer", "score"]
