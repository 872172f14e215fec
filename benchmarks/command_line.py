"""The command line that benchmarks share: it names the parts to run, by default all."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from loadtest.processes import MissingToolError, store_home

Bench = TypeVar("Bench")


def part_parser(module: str, description: str | None, parts: Collection[str], noun: str) -> argparse.ArgumentParser:
    """Return a parser whose positional arguments, each a `noun` in its help, are names of parts."""

    def known(name: str) -> str:
        if name not in parts:
            raise argparse.ArgumentTypeError(f"there is no {name!r}")
        return name

    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("names", nargs="*", metavar=noun, type=known, help=f"of {', '.join(parts)}; all by default")
    return parser


def run_parts(
    parts: Mapping[str, Callable[[Bench], None]], names: Collection[str], setup: Callable[[Path, Path], Bench]
) -> int:
    """Run the named parts, by default all, and return the exit code: 1 if a tool is missing, which a line then names.

    `setup` makes what every part takes from the BentoML home with the shipped models and a temporary folder.
    """
    home = store_home()
    with tempfile.TemporaryDirectory() as folder:
        bench = setup(home, Path(folder))
        for name in names or parts:
            try:
                parts[name](bench)
            except MissingToolError as error:
                print(error, file=sys.stderr)
                return 1
    return 0
