"""Files of pictures: archives, and bytes in Parquet."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.image import ImageClassifier
from models.model import InvalidInputError
from serving.tables import schema
from serving.tables.formats import read_columns
from tests.serving.tables.test_columns import fault, read
from tests.support.rows import written


def archive(files: dict[str, bytes], **options: Any) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return file.getvalue()


def test_the_files_of_an_archive_are_rows(tmp_path: Path) -> None:
    files = {"b.jpg": b"1", "folder/": b"", "folder/a.jpg": b"2", ".DS_Store": b"3", "__MACOSX/b.jpg": b"4"}
    for options in ({}, {"compression": zipfile.ZIP_DEFLATED}):
        assert read(tmp_path, archive(files, **options), ImageClassifier) == {"image": [b"1", b"2"]}


def test_bytes_in_parquet_are_rows(tmp_path: Path) -> None:
    content = written(pa.table({"Image": [b"\xff\x00", b"2"], "id": [1, 2]}))
    assert read(tmp_path, content, ImageClassifier) == {"image": [b"\xff\x00", b"2"]}


@pytest.mark.parametrize("values", [["text"], [1], [None]])
def test_what_is_no_bytes_in_parquet_is_refused(tmp_path: Path, values: list[Any]) -> None:
    content = written(pa.table({"image": values}))
    assert fault(tmp_path, content, ImageClassifier) == (("file", "data", 0, "image"), "bytes_type")


@pytest.mark.parametrize("content", [b"image\na.jpg\n", b'{"image": "a"}', b"\xff\xd8\xff", b""])
def test_other_formats_are_told_the_right_ones(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="ZIP archive of files, or Parquet with these columns: image"):
        read(tmp_path, content, ImageClassifier)


def test_an_archive_of_no_pictures_has_no_rows(tmp_path: Path) -> None:
    content = archive({"folder/": b""}) or b""
    assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_short")


def test_an_archive_has_no_more_files_than_the_model_admits(tmp_path: Path) -> None:
    content = archive({f"{i}": b"" for i in range(ImageClassifier.max_file_items + 1)})
    assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_long")


@pytest.mark.parametrize("cut", [4, 30, 60, 100])
def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    assert fault(tmp_path, archive({"a.jpg": b"1" * 100})[:-cut], ImageClassifier) == (("file",), "archive")


@pytest.mark.parametrize("at", range(0, 250, 7))
def test_a_damaged_archive_never_is_a_fault_of_the_server(tmp_path: Path, at: int) -> None:
    content = bytearray(archive({"a.jpg": b"1" * 100}, compression=zipfile.ZIP_DEFLATED))
    content[at % len(content)] ^= 0xFF
    try:
        read(tmp_path, b"PK\x03\x04" + bytes(content[4:]), ImageClassifier)
    except InvalidInputError:
        pass


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    content = archive({"a": b"\0" * (schema.MAX_FILE_BYTES + 1)}, compression=zipfile.ZIP_DEFLATED)
    assert fault(tmp_path, content, ImageClassifier) == (("file", "data", 0, "image"), "string_too_long")


def test_files_that_unpack_to_too_much_together_are_refused(tmp_path: Path) -> None:
    files = {f"{i}": b"\0" * schema.MAX_FILE_BYTES for i in range(17)}
    content = archive(files, compression=zipfile.ZIP_DEFLATED)
    assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_long")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_of_another_compression_is_refused(tmp_path: Path, compression: int) -> None:
    content = archive({"a.jpg": bytes(2**20)}, compression=compression)
    assert fault(tmp_path, content, ImageClassifier) == (("file", "data", 0, "image"), "archive")


def test_a_name_of_nothing_is_no_fault_of_the_server(tmp_path: Path) -> None:
    content = archive({"abc": b"1"}).replace(b"abc", b"\0bc")
    assert read(tmp_path, content, ImageClassifier) == {"image": [b"1"]}


def test_files_are_read_a_few_megabytes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(archive({f"{i}": bytes(2**21) for i in range(20)}))
    sizes = [sum(map(len, columns["image"])) for columns in read_columns(path, ImageClassifier)]
    assert max(sizes) <= 3 * 2**21


def test_one_entry_in_many_rows_of_parquet_is_refused(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(np.zeros(65, np.int32), [bytes(2**20)])
    content = written(pa.table({"image": column}))
    assert len(content) < 2**20
    assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_long")


def test_a_zip64_directory_is_not_read(tmp_path: Path) -> None:
    content = archive({"a.jpg": b"1"})
    end = content.index(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, end, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    assert fault(tmp_path, content[:end] + record + locator + content[end:], ImageClassifier) == (("file",), "archive")


def test_an_empty_archive_has_no_rows(tmp_path: Path) -> None:
    assert fault(tmp_path, archive({}), ImageClassifier) == (("file",), "too_short")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive({"a.jpg": b"1"}))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    assert fault(tmp_path, bytes(content), ImageClassifier) == (("file", "data", 0, "image"), "archive")


def test_a_directory_that_would_take_much_memory_is_not_read(tmp_path: Path) -> None:
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, 2**23, 0, 0)
    assert fault(tmp_path, b"PK\x03\x04" + bytes(2**23) + end, ImageClassifier) == (("file",), "archive")
