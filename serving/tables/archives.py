"""Read a ZIP archive of files, such as pictures: each is a row of the only column."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from models.model import InvalidInputError
from serving.tables.schema import MAX_FILE_BYTES, Cells, Schema, invalid

ZIP = b"PK\x03\x04"
# An archive's directory, which takes many times its size when it is read; and the record that tells of it.
MAX_DIRECTORY_BYTES = 2**20
END_OF_DIRECTORY = b"PK\x05\x06"
LOCATOR_64, LOCATOR_64_BYTES = b"PK\x06\x07", 20
END_BYTES = 22
MAX_COMMENT_BYTES = 2**16
# What is read at a time, and a file more.
CHUNK_BYTES = 2**22
# What all files of an archive may take together once they are decompressed.
MAX_TOTAL_BYTES = 2**29


def archive_cells(path: Path, schema: Schema) -> Iterator[Cells]:
    """Yield the files of an archive, some at a time, in the order of its directory."""
    (column,) = schema.columns
    check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if is_meant(entry)]
            if len(entries) > schema.max_rows:
                raise invalid(schema.too_many_rows, "too_long")
            if sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
                raise invalid(f"the files of the archive have more than {MAX_TOTAL_BYTES:,} bytes", "too_long")
            chunk: list[bytes] = []
            for row, entry in enumerate(entries):
                chunk.append(content(archive, entry, row, column))
                if sum(map(len, chunk)) > CHUNK_BYTES or entry is entries[-1]:
                    yield {column: chunk}
                    chunk = []
    except InvalidInputError:
        raise
    except Exception as error:  # zipfile raises errors of a dozen classes for damaged archives
        raise invalid("the file is not a readable ZIP archive", "archive") from error


def is_archive(path: Path) -> bool:
    """Return whether a file begins as a ZIP archive does."""
    with path.open("rb") as file:
        return file.read(len(ZIP)) in (ZIP, END_OF_DIRECTORY)


def archived_names(path: Path) -> list[str]:
    """Return the names of the files that `archive_cells` yields; InvalidInputError where it would raise one."""
    check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return [entry.filename for entry in archive.infolist() if is_meant(entry)]
    except Exception as error:
        raise invalid("the file is not a readable ZIP archive", "archive") from error


def check_directory(path: Path) -> None:
    """Raise InvalidInputError for an archive whose directory is so large that reading it would take much memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END_BYTES - MAX_COMMENT_BYTES))
        end = file.read()
    place = end.rfind(END_OF_DIRECTORY)
    if place < 0 or len(end) < place + END_BYTES:
        raise invalid("the ZIP archive has no directory: it may be cut off", "archive")
    if LOCATOR_64 in end[max(0, place - LOCATOR_64_BYTES) : place]:  # its other record counts, not this one
        raise invalid("the file is a ZIP64 archive: write it as an ordinary one", "archive")
    if int.from_bytes(end[place + 12 : place + 16], "little") > MAX_DIRECTORY_BYTES:
        raise invalid(f"the directory of the archive takes more than {MAX_DIRECTORY_BYTES:,} bytes", "archive")


def is_meant(entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry is a file that somebody put there, not a folder or what a file manager added."""
    path = PurePosixPath(entry.filename)
    return not entry.filename.endswith("/") and not path.name.startswith(".") and path.parts[:1] != ("__MACOSX",)


def content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, row: int, column: str) -> bytes:
    """Return a file of the archive; InvalidInputError for one that is too large or encrypted."""
    if entry.flag_bits & 1:
        raise invalid("the files of the archive are encrypted", "archive", "data", row, column)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of others zipfile unpacks all at once
        message = "the files of the archive must be stored or deflated"
        raise invalid(message, "archive", "data", row, column)
    if entry.file_size > MAX_FILE_BYTES:
        message = f"the file has more than {MAX_FILE_BYTES:,} bytes"
        raise invalid(message, "string_too_long", "data", row, column)
    with archive.open(entry) as file:
        return file.read(MAX_FILE_BYTES)
