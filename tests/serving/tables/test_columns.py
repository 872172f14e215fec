"""Files of any model's columns: texts, required numbers, pictures in archives and in Parquet."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from models.breast_cancer import EXAMPLE, BreastCancer
from models.image import ImageClassifier
from models.model import Array, Column, Columns, InvalidInputError, Model
from models.sentiment import Sentiment
from serving.tables import schema
from serving.tables.formats import read_columns, read_items
from tests.support.rows import written

CELLS = list(EXAMPLE.values())


class Order(BaseModel):
    """A row with every datatype."""

    amount: float
    count: int
    paid: bool
    note: str
    rest: Annotated[float, Field(ge=0)] | None = None
    visits: int | None = None


class Orders(Model[Array]):
    """A model that takes rows of Order."""

    input = Order
    outputs = (Column("sum", float),)

    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"x": item}

    def columns(self, outputs: Array) -> Columns:
        return {"sum": outputs}


ORDER = {"amount": 1.5, "count": 3, "paid": True, "note": "NA", "rest": None, "visits": 2}


def read(folder: Path, content: bytes | str, model: type[Model[Any]]) -> dict[str, list[Any]]:
    """Read a file with this content; return its columns."""
    path = folder / "rows"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chunks = list(read_columns(path, model))
    return {name: [value for chunk in chunks for value in chunk[name].tolist()] for name in chunks[0]}


def fault(folder: Path, content: bytes | str, model: type[Model[Any]]) -> tuple[tuple[str | int, ...], str]:
    """Read a file that is refused; return the location and kind of the error."""
    with pytest.raises(InvalidInputError) as caught:
        read(folder, content, model)
    return caught.value.location, caught.value.kind


def archive(files: dict[str, bytes], **options: Any) -> bytes:
    """Return a ZIP archive of files, given by name and content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return file.getvalue()


TEXTS = {
    "CSV": 'text\nNA\n"two\nlines, one cell"\n',
    "JSON": json.dumps({"data": [{"text": "NA"}, {"text": "two\nlines, one cell"}]}),
    "lines": '{"TEXT": "NA"}\n{"text": "two\\nlines, one cell", "id": 1}\n',
    "Parquet": written(pa.table({"text": ["NA", "two\nlines, one cell"]})),
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_texts_stay_as_they_are(tmp_path: Path, content: bytes | str) -> None:
    assert read(tmp_path, content, Sentiment) == {"text": ["NA", "two\nlines, one cell"]}


@pytest.mark.parametrize(
    ("content", "row", "kind"),
    [
        ('text,id\na,1\n"",2\n', 1, "string_too_short"),
        ("text,id\na,1\n,2\n", 1, "string_type"),
        ("text\n" + "a" * 10_001 + "\n", 0, "string_too_long"),
        ("text\n" + "\U0001f600" * 10_001 + "\n", 0, "string_too_long"),
        ('{"text": "a"}\n{"text": null}\n', 1, "string_type"),
        ('{"data": [{"text": 5}]}', 0, "string_type"),
        (written(pa.table({"text": ["a", None]})), 1, "string_type"),
        (written(pa.table({"text": [5, 6]})), 0, "string_type"),
    ],
    ids=range(8),
)
def test_a_text_that_predict_would_refuse_is_refused(tmp_path: Path, content: bytes | str, row: int, kind: str) -> None:
    assert fault(tmp_path, content, Sentiment) == (("file", "data", row, "text"), kind)


def test_a_text_of_the_largest_size_is_read(tmp_path: Path) -> None:
    text = "\U0001f600" * 10_000
    assert read(tmp_path, f"text\n{text}\n", Sentiment) == {"text": [text]}
    assert read(tmp_path, written(pa.table({"text": [text]})), Sentiment) == {"text": [text]}


def test_a_file_has_no_more_texts_than_the_model_admits(tmp_path: Path) -> None:
    content = "text\n" + "a\n" * (Sentiment.max_file_items + 1)
    assert fault(tmp_path, content, Sentiment) == (("file",), "too_long")


def test_rows_are_items_as_predict_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text(",".join(EXAMPLE) + "\n" + ",".join(map(str, CELLS)) + "\n", encoding="utf-8")
    assert np.array_equal(read_items(path, BreastCancer), np.array([CELLS], dtype=np.float32))


@pytest.mark.parametrize(("cell", "kind"), [("", "float_type"), ("NA", "float_parsing"), ("-1", "greater_than_equal")])
def test_a_number_that_must_be_there_is_named(tmp_path: Path, cell: str, kind: str) -> None:
    content = ",".join(EXAMPLE) + "\n" + ",".join([*map(str, CELLS[:-1]), cell]) + "\n"
    assert fault(tmp_path, content, BreastCancer) == (("file", "data", 0, "area_worst"), kind)


def test_a_column_that_must_be_there_is_named(tmp_path: Path) -> None:
    content = json.dumps({name: value for name, value in EXAMPLE.items() if name != "area_se"})
    assert fault(tmp_path, content, BreastCancer)[0][-1] == "area_se"
    content = ",".join(list(EXAMPLE)[:-1]) + "\n" + ",".join(map(str, CELLS[:-1])) + "\n"
    assert fault(tmp_path, content, BreastCancer) == (("file", "area_worst"), "missing")


ORDERS: dict[str, Any] = {
    "CSV": "amount,count,paid,note,rest,visits\n1.5,3,true,NA,n/a,2\n",
    "JSON": json.dumps({"data": [ORDER]}),
    "lines": json.dumps(ORDER),
    "JSON of text": json.dumps({name: value if value is None else str(value) for name, value in ORDER.items()}),
    "Parquet": written(pa.Table.from_pylist([ORDER])),
}


@pytest.mark.parametrize("content", ORDERS.values(), ids=ORDERS)
def test_every_datatype_is_read_from_every_format(tmp_path: Path, content: bytes | str) -> None:
    columns = read(tmp_path, content, Orders)
    (rest,) = columns.pop("rest", [float("nan")])
    assert np.isnan(rest)
    assert {name: values[0] for name, values in columns.items()} == {
        name: value for name, value in ORDER.items() if name != "rest"
    }


@pytest.mark.parametrize(("name", "cell"), [("count", "1.5"), ("paid", "perhaps"), ("amount", "$1")])
def test_a_cell_of_another_datatype_is_named(tmp_path: Path, name: str, cell: str) -> None:
    content = json.dumps({"data": [ORDER, ORDER | {name: cell}]})
    assert fault(tmp_path, content, Orders)[0] == ("file", "data", 1, name)


def test_whole_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    large = 2**53 + 1
    for content in (
        json.dumps(ORDER | {"count": large}),
        json.dumps({name.upper(): value for name, value in (ORDER | {"count": large}).items()}),
        ORDERS["CSV"].replace(",3,", f",{large},"),
        written(pa.Table.from_pylist([ORDER | {"count": large}])),
    ):
        assert read(tmp_path, content, Orders)["count"] == [large]


def test_a_text_without_a_bound_of_its_own_has_one(tmp_path: Path) -> None:
    most = schema.MAX_TEXT_CHARACTERS
    for content in (json.dumps(ORDER | {"note": "a" * (most + 1)}), ORDERS["CSV"].replace("NA", "a" * (most + 1), 1)):
        assert fault(tmp_path, content, Orders) == (("file", "data", 0, "note"), "string_too_long")
    assert len(read(tmp_path, json.dumps(ORDER | {"note": "a" * most}), Orders)["note"][0]) == most


class TestPictures:
    def test_the_files_of_an_archive_are_rows(self, tmp_path: Path) -> None:
        files = {"b.jpg": b"1", "folder/": b"", "folder/a.jpg": b"2", ".DS_Store": b"3", "__MACOSX/b.jpg": b"4"}
        for options in ({}, {"compression": zipfile.ZIP_DEFLATED}):
            assert read(tmp_path, archive(files, **options), ImageClassifier) == {"image": [b"1", b"2"]}

    def test_bytes_in_parquet_are_rows(self, tmp_path: Path) -> None:
        content = written(pa.table({"Image": [b"\xff\x00", b"2"], "id": [1, 2]}))
        assert read(tmp_path, content, ImageClassifier) == {"image": [b"\xff\x00", b"2"]}

    @pytest.mark.parametrize("values", [["text"], [1], [None]])
    def test_what_is_no_bytes_in_parquet_is_refused(self, tmp_path: Path, values: list[Any]) -> None:
        content = written(pa.table({"image": values}))
        assert fault(tmp_path, content, ImageClassifier) == (("file", "data", 0, "image"), "bytes_type")

    @pytest.mark.parametrize("content", [b"image\na.jpg\n", b'{"image": "a"}', b"\xff\xd8\xff", b""])
    def test_other_formats_are_told_the_right_ones(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InvalidInputError, match="ZIP archive of files, or Parquet with these columns: image"):
            read(tmp_path, content, ImageClassifier)

    def test_an_archive_of_no_pictures_has_no_rows(self, tmp_path: Path) -> None:
        content = archive({"folder/": b""}) or b""
        assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_short")

    def test_an_archive_has_no_more_files_than_the_model_admits(self, tmp_path: Path) -> None:
        content = archive({f"{i}": b"" for i in range(ImageClassifier.max_file_items + 1)})
        assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_long")

    @pytest.mark.parametrize("cut", [4, 30, 60, 100])
    def test_an_archive_that_is_cut_off_is_refused(self, tmp_path: Path, cut: int) -> None:
        assert fault(tmp_path, archive({"a.jpg": b"1" * 100})[:-cut], ImageClassifier) == (("file",), "archive")

    @pytest.mark.parametrize("at", range(0, 250, 7))
    def test_a_damaged_archive_never_is_a_fault_of_the_server(self, tmp_path: Path, at: int) -> None:
        content = bytearray(archive({"a.jpg": b"1" * 100}, compression=zipfile.ZIP_DEFLATED))
        content[at % len(content)] ^= 0xFF
        try:
            read(tmp_path, b"PK\x03\x04" + bytes(content[4:]), ImageClassifier)
        except InvalidInputError:
            pass

    def test_a_file_that_unpacks_to_too_much_is_refused(self, tmp_path: Path) -> None:
        content = archive({"a": b"\0" * (schema.MAX_FILE_BYTES + 1)}, compression=zipfile.ZIP_DEFLATED)
        assert fault(tmp_path, content, ImageClassifier) == (("file", "data", 0, "image"), "string_too_long")

    def test_files_that_unpack_to_too_much_together_are_refused(self, tmp_path: Path) -> None:
        files = {f"{i}": b"\0" * schema.MAX_FILE_BYTES for i in range(17)}
        content = archive(files, compression=zipfile.ZIP_DEFLATED)
        assert fault(tmp_path, content, ImageClassifier) == (("file",), "too_long")

    def test_an_encrypted_file_is_refused(self, tmp_path: Path) -> None:
        content = bytearray(archive({"a.jpg": b"1"}))
        for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(magic) + flags] |= 1
        assert fault(tmp_path, bytes(content), ImageClassifier) == (("file", "data", 0, "image"), "archive")

    def test_a_directory_that_would_take_much_memory_is_not_read(self, tmp_path: Path) -> None:
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, 2**23, 0, 0)
        assert fault(tmp_path, b"PK\x03\x04" + bytes(2**23) + end, ImageClassifier) == (("file",), "archive")
