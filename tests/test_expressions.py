"""Every regular expression of the server runs in linear time."""

from __future__ import annotations

import ast
import importlib
import re
import string
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.segmentation import parse_money, parse_percent
from models.segmentation.columns import NAMES
from tests.support import ROOT

METHODS = ("match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn")
SIZES = [2**k for k in range(9, 21)]
# The time per character of a quadratic expression doubles with the length of the text.
TIMES_SLOWER = 8
TRIES = 10
# Those that are made of a model's columns, here of segmentation's, by what they are assigned to.
MADE = {"self.odd_name": NAMES.odd_name}


def sources() -> Iterator[Path]:
    yield ROOT / "service.py"
    for folder in ("models", "serving"):
        yield from (ROOT / folder).rglob("*.py")


def expressions() -> Iterator[tuple[str, Any, str]]:
    """Yield each regular expression: its place in the code, the pattern, and the method that is called on it."""
    for path in sources():
        code = path.read_text(encoding="utf-8")
        if not re.search(r"\bre\.|pattern|regex", code):
            continue  # most have none, and every process of tests comes through here
        tree = ast.parse(code)
        used: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(node.attr)
        compiled = {
            id(node.value): node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        made = {
            id(node.value): MADE[ast.unparse(node.targets[0])]
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in MADE
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
            if id(node) in made:
                yield place, made[id(node)], "search"
                continue
            for keyword in node.keywords:
                if keyword.arg in ("pattern", "regex"):
                    yield place, re.compile(evaluated(path, keyword.value)), "search"
            if ast.unparse(node.func) == "re.compile":
                for method in used.get(compiled.get(id(node), ""), {"search"}):
                    yield place, evaluated(path, node), method
            elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in {f"re.{name}" for name in METHODS}:
                named = [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
                flags = [*named, *node.args[2 if node.func.attr != "sub" else 4 :], ast.Constant(0)][0]
                yield place, re.compile(evaluated(path, node.args[0]), evaluated(path, flags)), node.func.attr


def evaluated(path: Path, node: ast.expr) -> Any:
    """Evaluate an expression of a module's code that depends only on the module's constants."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    code = compile(ast.unparse(node), str(path), "eval")
    constants = {} if name == "service" else vars(importlib.import_module(name))
    return eval(code, {"re": re, **constants})


FOUND = list(expressions())


def hostile(pattern: Any) -> list[str]:
    """Return texts to repeat: each character, and pieces of the pattern itself."""
    literal = re.findall(r"\w{2,}", pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode())
    return [*string.printable, "é", "1,", ",1", "1.", "$1", "-1", "(1", " 1", "a ", "1,111", *literal]


def seconds_per_character(pattern: Any, method: str, piece: str, size: int) -> float:
    text: Any = piece * (size // len(piece)) + "\0x"
    text = text if isinstance(pattern.pattern, str) else text.encode()
    more = (text[:0],) if method in ("sub", "subn") else ()
    start = time.perf_counter()
    result = getattr(pattern, method)(*more, text)
    if method == "finditer":
        deque(result, maxlen=0)  # kept, they would have garbage collected again and again
    return (time.perf_counter() - start) / size


def is_linear(pattern: Any, method: str, piece: str, sizes: list[int]) -> bool:
    """Return whether the time per character stays near that of the smallest size, by the best of TRIES."""
    base = min(seconds_per_character(pattern, method, piece, sizes[0]) for _ in range(TRIES))
    return all(
        any(seconds_per_character(pattern, method, piece, size) < TIMES_SLOWER * base for _ in range(TRIES))
        for size in sizes[1:]
    )


def test_the_expressions_are_found() -> None:
    assert {"models/segmentation/columns.py", "serving/http/middleware/request_context.py"} <= {
        place.partition(":")[0] for place, *_ in FOUND
    }


@pytest.mark.parametrize(("pattern", "method"), [found[1:] for found in FOUND], ids=[found[0] for found in FOUND])
def test_an_expression_is_linear(pattern: Any, method: str) -> None:
    slow = [piece for piece in hostile(pattern) if not is_linear(pattern, method, piece, SIZES[:-2:2] + SIZES[-1:])]
    assert slow == []


def test_a_quadratic_expression_would_be_found() -> None:
    assert not is_linear(re.compile(r"\d[\d,]*\.?\d*"), "fullmatch", "1", SIZES)
    assert not is_linear(re.compile(r"\s+$"), "search", " ", SIZES)
    assert is_linear(re.compile(r"\d++"), "fullmatch", "1", SIZES)


@pytest.mark.parametrize("parse", [parse_money, parse_percent])
@pytest.mark.parametrize("text", ["1" * 2**20 + "x", " " * 2**20 + "x", "1," * 2**20, "1" * 2**20])
def test_long_text_is_neither_money_nor_percentage(parse: Any, text: str) -> None:
    with pytest.raises(ValueError, match="Input should be a number"):
        parse(text)
