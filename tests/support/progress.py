"""Progress that nobody watches."""

from __future__ import annotations


def ignore(step: str, done: float) -> None:
    """Take a report of progress."""
    assert step
    assert 0 <= done <= 1
