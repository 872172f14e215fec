"""Reads a file of customers' rows: JSON, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.model import Array
from models.segmentation.columns import MAX_FILE_ROWS, TOO_MANY_ROWS, Columns, checked, features, invalid
from models.segmentation.csv_rows import UnreadableError, dialects
from models.segmentation.json_rows import json_chunks, start_of_text
from models.segmentation.parquet_rows import parquet_chunks

# How files begin that would be taken for CSV otherwise.
OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another ZIP archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    b"\x1f\x8b": "compressed with gzip: decompress it",
    b"BZh9": "compressed with bzip2: decompress it",
    b"\xfd7zXZ": "compressed with xz: decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: decompress it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"PARE": "encrypted Parquet: decrypt it",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"FEA1": "a Feather file: save it as Parquet",
    b"Obj\x01": "an Avro file: save it as Parquet",
    b"%PDF": "a PDF: save it as CSV",
}


def read_file(path: Path) -> Array:
    """Return the `features` of a file's rows; its format is recognised by its content.

    Raises InvalidInputError that names row and column of the first fault.
    """
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(start_of_text(file))
        opens_json = file.read(1) in (b"{", b"[")
    for magic, advice in OTHER_FORMATS.items():
        if start.startswith(magic):
            raise invalid(f"the file is {advice}", "file_format")
    if start.startswith(b"PAR1"):
        return matrix(parquet_chunks(path))
    if opens_json:
        return matrix(json_chunks(path))
    faults: list[str] = []
    for dialect in dialects(path):
        try:
            return matrix(dialect.chunks())
        except UnreadableError as fault:
            faults.append(str(fault))
    raise invalid(faults[0], "csv")


def matrix(chunks: Iterable[Columns]) -> Array:
    """Return the `features` of columns, some rows at a time."""
    matrices: list[Array] = []
    rows = 0
    for columns in chunks:
        matrices.append(features(checked(columns, rows)))
        rows += len(matrices[-1])
        if rows > MAX_FILE_ROWS:
            raise invalid(TOO_MANY_ROWS, "too_long")
    if not rows:
        raise invalid("the file has no rows", "too_short")
    return np.concatenate(matrices)
