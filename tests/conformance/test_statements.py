"""Every statement in statements.md has a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.support import ROOT

LINES = (Path(__file__).parent / "statements.md").read_text(encoding="utf-8").splitlines()


@cache
def names_in(file: Path) -> set[str]:
    """Return the tests of a file, as `name` or `Class::name`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{prefix}{part.name}" for part in inside if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def is_there(test: str) -> bool:
    """Return whether a test, `path::name`, is there."""
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and name in names_in(ROOT / path)


def test_every_statement_has_a_test() -> None:
    following = zip(LINES, [*LINES[1:], ""], strict=True)
    statements = [(line, after) for line, after in following if line.startswith("- ")]
    assert len(statements) > 20
    assert [line for line, after in statements if not re.fullmatch(r"  - `tests/\S+::\S+`", after)] == []


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/\S+::\S+)`", "\n".join(LINES))
    assert [test for test in named if not is_there(test)] == []


def test_a_test_that_is_not_there_is_noticed() -> None:
    own = "tests/conformance/test_statements.py"
    assert is_there(f"{own}::test_a_test_that_is_not_there_is_noticed")
    assert not is_there(f"{own}::test_nothing")
    assert not is_there(f"{own}::is_there")
    assert not is_there("tests/conformance/absent.py::test_nothing")
