"""The load generator imports only what its image holds, and nothing of the benchmarks, which are built on it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

FOLDER = ROOT / "loadtest"


def imported(file: Path) -> Iterator[str]:
    """Yield the names that a file imports: of modules, or of what is in them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_image_holds_all_that_it_imports() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"loadtest/(\w+)\.py", dockerfile))
    needed = set()
    for name in copied:
        imports = [[*found.split("."), ""] for found in imported(FOLDER / f"{name}.py")]
        assert not {package for package, *_ in imports} & {"benchmarks", "models", "serving", "tests", "training"}, name
        needed |= {module for package, module, *_ in imports if package == "loadtest"}
    assert needed <= copied


def test_it_is_independent_of_the_benchmarks() -> None:
    found = {file.name for file in FOLDER.glob("*.py") if any(n.startswith("benchmarks") for n in imported(file))}
    assert found == set()
