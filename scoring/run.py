"""A run over files: read, score and write part by part, going on where a run before it ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from models.model import Model
from scoring.engine import ERROR, Scorer
from scoring.parts import Part, Parts
from scoring.sources import CSV, FILES, Source, cut
from scoring.writers import OutputError
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

    Parts that are done are not done again. Raises OutputError, SourceError, ColumnsError, OSError where nothing
    can be written, and with `strict` BadRowError for the first bad row.
    """
    if not target.is_folder and target.path.exists():
        raise OutputError(f"{target.path} exists: remove it, or name another output")
    parts = Parts(target.folder, target.form, is_target=target.is_folder)
    target.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.folder / "_lock", timeout=0):
            done = parts.open(manifest(scorer, sources, target, rows))
            report(sum(part.rows for part in done))
            for part in more(scorer, sources, parts, done, rows, strict=strict):
                done.append(part)
                report(part.rows)
            if not done:
                raise OutputError("the input has no rows")
            if not target.is_folder:
                parts.finish(len(done), target.path)
    except Timeout:
        raise OutputError(f"another run is writing to {target.folder}") from None
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
            part = Part(place, end)
            parts.write(number, scored(scorer, source, batches, part, strict=strict), part)
            end = part.end
            number += 1
            yield part
        skip = 0


def scored(
    scorer: Scorer, source: Source, batches: Iterable[pa.RecordBatch], part: Part, *, strict: bool
) -> Iterator[pa.RecordBatch]:
    """Yield batches as they are written, of files without their contents; count in `part` what they have."""
    for batch in batches:
        answered, faults = scorer.score(batch)
        errors = answered.column(scorer.prefix + ERROR)
        bad_rows = len(errors) - errors.null_count
        if strict and bad_rows:
            raise BadRowError(first_error(source, part.end, errors))
        part.add(len(errors), bad_rows, faults)
        yield answered.drop_columns(list(Schema(scorer.model_class).columns)) if source.form == FILES else answered


def first_error(source: Source, first_row: int, errors: pa.Array) -> str:
    """Return the place and the text of the first error, rows counted from 0."""
    row = pc.index(errors.is_valid(), True).as_py()
    return f"{source.path}, row {first_row + row:,}: {errors[row]}"
