"""A run over files: read, score and write part by part, going on where a run before it ended."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from models.model import Model
from scoring.engine import ERROR, Scored, Scorer
from scoring.parts import Part, Parts, PartsError
from scoring.sources import CSV, FILES, Source, cut
from serving.tables.schema import Schema

# Rows of a part, of models that take rows as one array. Others have fewer: texts, and pictures, which are large.
PART_ROWS = 50_000
PART_REQUESTS = 8
# Told of the rows that are done, when a part is.
Report = Callable[[int], None]


class BadRowError(Exception):
    """A row is bad, and no row may be; the text names it."""


@dataclass(frozen=True)
class Target:
    """What a run writes: a file, or a folder of parts, in a format."""

    path: Path
    form: str
    is_folder: bool

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        return self.path if self.is_folder else self.path.with_name(f"{self.path.name}.parts")


def part_rows(model: type[Model[Any]]) -> int:
    """Return how many rows a part of this model has unless it is told."""
    if model.vectorized:
        return PART_ROWS
    return model.max_items * (PART_REQUESTS if not Schema(model).blobs else 2)


def form_of_parts(sources: list[Source]) -> str:
    """Return the format of a folder of parts unless it is told: that of the input."""
    return CSV if sources[0].form == FILES else sources[0].form


def run(
    scorer: Scorer, sources: list[Source], target: Target, rows: int, report: Report, *, strict: bool = False
) -> list[Part]:
    """Score the rows of sources in parts of so many; return what each part has.

    Parts that are done are not done again. Raises PartsError, SourceError, ColumnsError, OSError where nothing
    can be written, and with `strict` BadRowError for the first bad row.
    """
    if not target.is_folder and target.path.exists():
        raise PartsError(f"{target.path} exists: remove it, or name another output")
    parts = Parts(target.folder, target.form)
    target.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.folder / "_lock", timeout=0):
            done = parts.open(manifest(scorer, sources, target, rows))
            report(sum(part.rows for part in done))
            for part in more(scorer, sources, parts, done, rows, strict=strict):
                done.append(part)
                report(part.rows)
            if not done:
                raise PartsError("the input has no rows")
            if not target.is_folder:
                parts.join(len(done), target.path)
    except Timeout:
        raise PartsError(f"another run is writing to {target.folder}") from None
    if not target.is_folder:
        shutil.rmtree(target.folder)
    return done


def manifest(scorer: Scorer, sources: list[Source], target: Target, rows: int) -> dict[str, Any]:
    """Return what two runs must have in common for one to go on with the other's parts."""
    return {
        "model": str(scorer.id),
        "input": [[str(source.path.resolve()), *identity(source.path)] for source in sources],
        "part size": rows,
        "format": target.form,
        "prefix": scorer.prefix,
    }


def identity(path: Path) -> list[int]:
    """Return size and time of change of a file; of a folder those of its files, added up and the latest."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    found = [file.stat() for file in files]
    return [len(found), sum(stat.st_size for stat in found), max((stat.st_mtime_ns for stat in found), default=0)]


def more(
    scorer: Scorer, sources: list[Source], parts: Parts, done: list[Part], rows: int, *, strict: bool
) -> Iterator[Part]:
    """Score and write the parts that follow those that are done."""
    number = len(done)
    first, skip = (done[-1].source, done[-1].end) if done else (0, 0)
    for place in range(first, len(sources)):
        source, end = sources[place], skip
        for batches in cut(source.batches(scorer.model_class, skip, lines=parts.form == CSV), rows):
            scored = [scorer.score(batch) for batch in batches]
            errors = pa.chunked_array([each.batch.column(scorer.prefix + ERROR) for each in scored])
            if strict and errors.null_count < len(errors):
                raise BadRowError(first_error(source, end, errors))
            end += len(errors)
            counts = sum((each.faults for each in scored), Counter[tuple[str, str]]())
            faults = [(column, kind, count) for (column, kind), count in sorted(counts.items())]
            part = Part(place, end, len(errors), len(errors) - errors.null_count, faults)
            parts.write(number, kept(scored, source, scorer), part)
            number += 1
            yield part
        skip = 0


def kept(scored: list[Scored], source: Source, scorer: Scorer) -> list[pa.Table]:
    """Return what is written of scored batches, a table for each run of equal schemas: of files not their content."""
    runs = itertools.groupby((each.batch for each in scored), key=lambda batch: batch.schema)
    tables = [pa.Table.from_batches(list(batches)) for _, batches in runs]
    if source.form == FILES:
        return [table.drop_columns(list(Schema(scorer.model_class).columns)) for table in tables]
    return tables


def first_error(source: Source, first_row: int, errors: pa.ChunkedArray) -> str:
    """Return the place and the text of the first error, rows counted from 0."""
    row = pc.index(errors.is_valid(), True).as_py()
    return f"{source.path}, row {first_row + row:,}: {errors[row]}"
