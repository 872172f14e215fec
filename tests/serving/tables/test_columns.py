"""Files of any model's columns: texts, required numbers, pictures in archives and in Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from models.breast_cancer import EXAMPLE, BreastCancer
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


@pytest.mark.parametrize(("cell", "kind"), [(None, "float_type"), (np.nan, "float_type"), (-1.0, "greater_than_equal")])
def test_a_number_of_parquet_that_must_be_there_is_named(tmp_path: Path, cell: float | None, kind: str) -> None:
    columns: dict[str, list[Any]] = {name: [value] * 3_000 for name, value in EXAMPLE.items()}
    columns["area_se"][2_500] = cell
    assert fault(tmp_path, written(pa.table(columns)), BreastCancer) == (("file", "data", 2_500, "area_se"), kind)


def test_many_rows_of_parquet_keep_their_order(tmp_path: Path) -> None:
    orders = [{**ORDER, "amount": float(row), "count": row, "rest": row % 3 or None} for row in range(5_000)]
    columns = {name: [order[name] for order in orders] for name in ORDER}
    found = read(tmp_path, written(pa.table(columns)), Orders)
    assert found["amount"] == found["count"] == list(range(5_000))
    assert [value if value == value else None for value in found["rest"]] == columns["rest"]
    numbers = {name: [float(row)] * 5_000 for row, name in enumerate(EXAMPLE)}
    read_back = read(tmp_path, written(pa.table(numbers)), BreastCancer)
    assert read_back == numbers


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


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_whole_number_of_more_than_64_bits_is_refused(tmp_path: Path, number: int) -> None:
    for content in (json.dumps(ORDER | {"count": number}), ORDERS["CSV"].replace(",3,", f",{number},")):
        assert fault(tmp_path, content, Orders)[0] == ("file", "data", 0, "count")


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_whole_numbers_have_64_bits_under_any_name(tmp_path: Path, number: int) -> None:
    row = {key: value for key, value in ORDER.items() if key != "count"}
    for name in ("count", "COUNT"):
        assert read(tmp_path, json.dumps(row | {name: number}), Orders)["count"] == [number]


def test_an_array_of_rows_may_stand_alone(tmp_path: Path) -> None:
    # As pandas writes it with orient="records".
    assert read(tmp_path, json.dumps([{"text": "a"}, {"TEXT": "b"}]), Sentiment) == {"text": ["a", "b"]}
    assert fault(tmp_path, '[{"text": "a"}', Sentiment)[1] == "json_invalid"


@pytest.mark.parametrize(
    "content", ['{"data":[{"text":1},{"text":"a",}]}', '{"text":1}\n{"text":"a",}', '{"data":[{"TEXT":01}]}']
)
def test_what_is_no_json_after_what_does_not_fit_is_refused(tmp_path: Path, content: str) -> None:
    fault(tmp_path, content, Sentiment)


@pytest.mark.parametrize("form", ['{{"data": [{}]}}', "{}", '{{"data": [{{"text": "a"}}, {}]}}'])
def test_a_row_of_very_many_columns_is_refused(tmp_path: Path, form: str) -> None:
    row = json.dumps({"TEXT": "a", **{str(number): [] for number in range(50_000)}})
    fault(tmp_path, form.format(row), Sentiment)


def test_bytes_of_parquet_are_read_as_utf_8(tmp_path: Path) -> None:
    texts = ["it's a delight", "caf\u00e9 \\x27", "\U0001f600"]
    content = written(pa.table({"text": pa.array([text.encode() for text in texts], pa.binary())}))
    assert read(tmp_path, content, Sentiment) == {"text": texts}
    content = written(pa.table({"text": pa.array([b"caf\xe9"], pa.binary())}))
    assert fault(tmp_path, content, Sentiment) == (("file",), "parquet")


def test_a_lone_carriage_return_ends_no_row_of_a_single_column(tmp_path: Path) -> None:
    assert fault(tmp_path, "text\na\rb\nc\n", Sentiment) == (("file",), "csv")
    assert read(tmp_path, 'text\n"a\rb"\nc\n', Sentiment) == {"text": ["a\rb", "c"]}
    assert read(tmp_path, "text\ra\rb\r", Sentiment) == {"text": ["a", "b"]}
    assert read(tmp_path, "text\r\na\nb\r\n", Sentiment) == {"text": ["a", "b"]}


def test_few_long_texts_are_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    text = "\U0001f600" * 10_000
    column = pa.DictionaryArray.from_arrays(np.zeros(200, np.int32), [text])
    path.write_bytes(written(pa.table({"text": column})))
    assert max(len(columns["text"]) for columns in read_columns(path, Sentiment)) < 50


def test_one_long_text_in_many_rows_of_parquet_is_refused(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(np.zeros(2_048, np.int32), ["\U0001f600" * 10_000])
    assert fault(tmp_path, written(pa.table({"text": column})), Sentiment) == (("file",), "too_long")


def test_a_text_without_a_bound_of_its_own_has_one(tmp_path: Path) -> None:
    most = schema.MAX_TEXT_CHARACTERS
    for content in (json.dumps(ORDER | {"note": "a" * (most + 1)}), ORDERS["CSV"].replace("NA", "a" * (most + 1), 1)):
        assert fault(tmp_path, content, Orders) == (("file", "data", 0, "note"), "string_too_long")
    assert len(read(tmp_path, json.dumps(ORDER | {"note": "a" * most}), Orders)["note"][0]) == most
