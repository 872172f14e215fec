"""Score files: python -m scoring MODEL IN OUT."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from scoring.engine import ColumnsError, load_scorer
from scoring.entries import EntryError
from scoring.parts import Part
from scoring.run import BadRowError, Target, form_of_parts, part_rows, run
from scoring.sources import CSV, JSON, PARQUET, WRITTEN, SourceError, find_sources, form_of
from scoring.writers import OutputError
from serving.cores import available_cores


class RateColumn(ProgressColumn):
    """The rows of a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, once there is one."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m scoring",
        description="Answer the rows of files by a model. A run that was interrupted goes on with the same command.",
    )
    found.add_argument("model", metavar="MODEL", help="name, name:version, or the folder of a model's entry")
    found.add_argument(
        "source",
        metavar="IN",
        type=Path,
        help="CSV, JSON lines, Parquet, or a folder of these; a folder or ZIP archive of pictures",
    )
    found.add_argument("target", metavar="OUT", type=Path, help="a .csv, .jsonl or .parquet file, or a folder")
    found.add_argument("--format", choices=(CSV, JSON, PARQUET), help="of the parts in a folder (default: the input's)")
    found.add_argument("--strict", action="store_true", help="stop at the first bad row")
    found.add_argument("--rows", type=positive, help="rows of a part, which bound memory (default: by model)")
    found.add_argument("--threads", type=positive, default=available_cores(), help="(default: all cores)")
    found.add_argument("--prefix", default="", help="begin the names of the columns that are added")
    return found


def positive(text: str) -> int:
    """Return a positive whole number; raise ValueError for anything else."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 with one line on standard error where it could not be done."""
    options = parser().parse_args(arguments)
    try:
        parts = scored(options)
    except (BadRowError, ColumnsError, EntryError, OutputError, SourceError) as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"cannot write {options.target}: {error.strerror or str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        failed("interrupted: the same command goes on")
        return 130
    Console().print(summary(parts))
    return 0


def scored(options: argparse.Namespace) -> list[Part]:
    """Do what the command line says, with a progress bar on standard error."""
    scorer = load_scorer(options.model, options.threads, options.prefix)
    sources = find_sources(options.source, scorer.model_class)
    is_folder = options.target.is_dir() or not options.target.suffix
    form = (options.format or form_of_parts(sources)) if is_folder else form_of(options.target, WRITTEN)
    target = Target(options.target, form, is_folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as progress:
        task = progress.add_task(str(scorer.id), total=sum(source.rows() for source in sources))
        begun = False

        def report(rows: int) -> None:
            nonlocal begun
            if begun:
                progress.advance(task, rows)
            else:  # what was done before tells nothing of this run's rate
                progress.update(task, completed=rows)
            begun = True

        rows = options.rows or part_rows(scorer.model_class)
        parts = run(scorer, sources, target, rows, report, strict=options.strict)
        done = sum(part.rows for part in parts)
        progress.update(task, total=done, completed=done)
    return parts


def summary(parts: Sequence[Part]) -> Table:
    """Return a table of the rows, and of the faulty cells by column and kind."""
    rows, bad = sum(part.rows for part in parts), sum(part.bad_rows for part in parts)
    table = Table("rows", f"{rows:,}")
    table.add_row("scored", f"{rows - bad:,}")
    table.add_row("bad", f"{bad:,}")
    faults: Counter[tuple[str, str]] = Counter()
    for part in parts:
        faults.update(part.faults)
    for (column, kind), count in faults.most_common():
        table.add_row(f"  {column}: {kind}", f"{count:,}")
    return table


def failed(line: str) -> int:
    """Print a line on standard error; return the exit status."""
    print(line, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
