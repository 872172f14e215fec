"""Clients cannot forge log lines."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serving.telemetry import logs
from tests.support.edge import edge_around, public_guards

PATHS = [
    "/a%0A2026-01-01%20ERROR%20tiffin%20forged",
    "/a%0D%1B%5B2Jforged",
    "/a%E2%80%A8%E2%80%AEforged",
    "/a%C2%85%07forged",
    "/a%FFforged",
]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def write_log_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[io.StringIO], None]]:
    """Return a function that configures the server's logging to write to a stream."""
    level = logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [])

    def write(stream: io.StringIO) -> None:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(access_log=True)

    yield write
    logging.root.setLevel(level)


@pytest.fixture
def client() -> TestClient:
    return TestClient(edge_around(Starlette(), public_guards()))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_one_line_of_a_terminal(
    write_log_to: Callable[[io.StringIO], None], client: TestClient, path: str
) -> None:
    terminal = Terminal()
    write_log_to(terminal)
    client.get(path)
    (line,) = [line for line in terminal.getvalue().split("\n") if "tiffin.access" in line]
    assert line.isprintable()
    assert "forged 404" in line


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_one_line_of_json(write_log_to: Callable[[io.StringIO], None], client: TestClient, path: str) -> None:
    file = io.StringIO()
    write_log_to(file)
    client.get(path)
    (line,) = [line for line in file.getvalue().split("\n") if "tiffin.access" in line]
    assert line.isprintable()
    assert "forged 404" in json.loads(line)["message"]


def test_a_traceback_keeps_its_lines_and_no_escapes_of_a_terminal(
    write_log_to: Callable[[io.StringIO], None],
) -> None:
    terminal = Terminal()
    write_log_to(terminal)
    try:
        raise ValueError("\x1b[2Jred")
    except ValueError:
        logging.getLogger("tiffin.test").exception("failed")
    lines = terminal.getvalue().split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-2] == "ValueError: \\x1b[2Jred"
