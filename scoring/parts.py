"""Write scored rows in parts, each whole or not there: as files of a folder, or behind each other in one file."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoring.sources import CSV, PARQUET
from scoring.writers import OutputError, append_json, join_parquet, write_csv, write_file

MANIFEST = "_manifest.json"
# How the names of files begin that are being written.
UNFINISHED = "_unfinished"


@dataclass
class Part:
    """Rows that are written together: of which source, up to which of its rows, and what they have.

    `size` is where they end in the one file that parts are appended to, in bytes.
    """

    source: int
    end: int
    rows: int = 0
    bad_rows: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    size: int = 0

    def add(self, rows: int, bad_rows: int, faults: Counter[tuple[str, str]]) -> None:
        """Count rows that follow, and their faulty cells by column and kind."""
        self.end += rows
        self.rows += rows
        self.bad_rows += bad_rows
        self.faults += faults

    def to_json(self) -> bytes:
        """Return the part as it is kept."""
        faults = [(column, kind, count) for (column, kind), count in sorted(self.faults.items())]
        return json.dumps(vars(self) | {"faults": faults}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Part:
        """Return a part that was kept."""
        found = json.loads(text)
        faults = Counter({(column, kind): count for column, kind, count in found["faults"]})
        return cls(**found | {"faults": faults})


class Parts:
    """The parts of a run in a folder, with a file that tells what each has.

    Text that becomes one file is appended to that file, which lies in the folder until it is whole. Of other runs each
    part is a file, `part-00000.csv` and so on. A part is there when its file of facts is, which is written last.
    """

    def __init__(self, folder: Path, form: str, *, is_target: bool) -> None:
        self.folder = folder
        self.form = form
        self.appends = form != PARQUET and not is_target
        self.whole = folder / f"{UNFINISHED}-whole.{form}"
        # Of the file that parts are appended to, what is done.
        self.size = 0

    def open(self, manifest: dict[str, Any]) -> list[Part]:
        """Make the folder for a run, or go on with that of an equal one; return the parts that are done.

        Raises OutputError where the folder has parts of another run, or other files.
        """
        file = self.folder / MANIFEST
        manifest = manifest | {"layout": "one file" if self.appends else "files"}
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if known is not None and self.facts(0).is_file():
            if differing := [name for name in manifest if known.get(name) != manifest[name]]:
                raise OutputError(
                    f"{self.folder} was begun with another {' and '.join(differing)}: remove it, or name another output"
                )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(not file.name.startswith("_") for file in self.folder.iterdir()):
                raise OutputError(f"{self.folder} has files, but none of ours: name another output")
            write_whole(file, json.dumps(manifest, indent=1).encode())
        return self.done()

    def done(self) -> list[Part]:
        """Return the parts that are there; forget those whose rows are not, such as after the file was taken away."""
        size = self.whole.stat().st_size if self.whole.exists() else 0
        numbers = itertools.takewhile(lambda number: self.facts(number).is_file(), itertools.count())
        known = [Part.from_json(self.facts(number).read_bytes()) for number in numbers]
        done = list(itertools.takewhile(lambda part: part.size <= size, known))
        for number in reversed(range(len(done), len(known))):
            self.facts(number).unlink()
        self.size = done[-1].size if done else 0
        return done

    def path(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{number:05}.{self.form}"

    def facts(self, number: int) -> Path:
        """Return the file that tells what a part has; other readers of the folder pass over it."""
        return self.folder / f"_part-{number:05}.json"

    def write(self, number: int, batches: Iterable[pa.RecordBatch], part: Part) -> None:
        """Write the batches of a part and, once they are on the disk, what `part` then says that they have."""
        if self.appends:
            self.size = part.size = self.append(batches)
        else:
            unfinished = self.folder / f"{UNFINISHED}.{self.form}"
            write_file(unfinished, batches, self.form)
            unfinished.replace(self.path(number))
        write_whole(self.facts(number), part.to_json())

    def append(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Write batches behind the parts that are done, over what is left of one that is not; return where they end."""
        self.whole.touch()
        with self.whole.open("r+b") as file:
            header = file.readline() if self.form == CSV and self.size else b""
            file.truncate(self.size)
            file.seek(self.size)
            if self.form == CSV:
                write_csv(file, batches, header)
            else:
                append_json(file, batches, self.folder / f"{UNFINISHED}.{self.form}")
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # not on macOS
                # Nobody reads it soon: its memory takes the next part, and what others have in the cache stays there.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.tell()

    def finish(self, count: int, target: Path) -> None:
        """Make one file of the parts, which is there when it is whole."""
        if not self.appends:
            join_parquet([self.path(number) for number in range(count)], self.whole)
        self.whole.replace(target)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there only when it is whole."""
    unfinished = path.with_name(f"{UNFINISHED}-{path.name}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
