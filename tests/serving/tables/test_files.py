"""Files of rows as all kinds of programs write them: read correctly, or refused with row and column."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.model import InvalidInputError
from models.segmentation import Segmentation
from models.segmentation.columns import USED, VARIABLES, features
from serving.tables.formats import read_items
from serving.tables.json_arrays import MAX_ROW_BYTES
from tests.support.rows import written

COMPLETE = {"x5": "monday", "x12": 66.55, "x31": "germany", "x62": 0.37, "x91": 0.4}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Return a function that reads a file with the given content."""

    def content_read(content: bytes) -> Any:
        path = tmp_path / "rows"
        path.write_bytes(content)
        return read_items(path, Segmentation)

    return content_read


def expected(*rows: dict[str, Any]) -> Any:
    return features({name: [row.get(name) for row in rows] for name in USED})


def same(matrix: Any, *rows: dict[str, Any]) -> bool:
    return bool(np.array_equal(matrix, expected(*rows), equal_nan=True))


def fault(read: Any, content: bytes) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        read(content)
    assert caught.value.location[0] == "file"
    assert len(str(caught.value)) < 300
    return caught.value


def parquet(**columns: Any) -> bytes:
    return written(pa.table(columns))


CSV = "x5,x12,x31,x62,x91\nmonday,66.55,germany,0.37,0.4\n"
SAME = {
    "commas": CSV,
    "semicolons": CSV.replace(",", ";"),
    "tabs": CSV.replace(",", "\t"),
    "bars": CSV.replace(",", "|"),
    "windows lines": CSV.replace("\n", "\r\n"),
    "mac lines": CSV.replace("\n", "\r"),
    "no last line end": CSV.strip(),
    "empty lines": CSV.replace("\n", "\n\n"),
    "byte order mark": "\ufeff" + CSV,
    "capitals": CSV.replace("x", "X"),
    "spaces after commas": CSV.replace(",", ", "),
    "spaces before commas": CSV.replace(",", " ,").replace("\n", " \n"),
    "no-break spaces": CSV.replace(",", "\u00a0,"),
    "quotes": '"x5","x12","x31","x62","x91"\n"monday","66.55","germany","0.37","0.4"\n',
    "spaces before quotes": '"x5", "x12", "x31", "x62", "x91"\n"monday", "66.55", "germany", "0.37", "0.4"\n',
    "a column without a name": CSV.replace("x5", ",x5").replace("monday", "1,monday"),
    "an unused column that is no number": CSV.replace("x5", "x0,x5").replace("monday", "n/a,monday"),
    "a quoted line end": CSV.replace("x5", "note,x5").replace("monday", '"a\nb,\n,,,,,",monday'),
    "mixed line ends": "x5,x12,x31,x62,x91\r\nmonday,66.55,germany,0.37,0.4\n",
    "mixed line ends and quotes": 'x5,x12,x31,x62,x91\r\n"monday",66.55,"germany",0.37,0.4\n',
    "quotes within quotes": CSV.replace("x5", "note,x5").replace("monday", '"he said ""hi, you""",monday'),
    "Spark's quotes within quotes": CSV.replace("x5", "note,x5").replace("monday", r'"a \"b, c\" d",monday'),
    "a backslash before a quote": CSV.replace("x5", "note,x5").replace("monday", '"C:\\",monday'),
    "dollars": CSV.replace("66.55", "$66.55"),
    "accounting": CSV.replace("66.55", '" $66.55 "'),
    "a plus": CSV.replace("66.55", "+66.55").replace("0.4", "+0.4"),
    "exponents": CSV.replace("0.37", "3.7e-1").replace("0.4", "4E-1"),
    "lines of JSON": json.dumps(COMPLETE) + "\n",
    "lines of JSON, some empty": json.dumps(COMPLETE) + "\r\n\n  \n",
    "JSON": json.dumps({"data": [COMPLETE]}),
    "indented JSON": json.dumps({"data": [COMPLETE]}, indent=2),
    "JSON with other keys": f"""{{"a": {{"no": 1}}, "b": [{{"data": [1]}}], "c": "[{{\\"data\\":", "data"
        : [{json.dumps(COMPLETE | {"note": [{"x5": '"}]'}], 'a"{': {'b"': "]"}})}], "d": "\\"[{{"}}""",
    "JSON with a byte order mark": "\ufeff" + json.dumps({"data": [COMPLETE]}),
    "JSON in capitals": json.dumps({"data": [{name.upper(): value for name, value in COMPLETE.items()}]}),
    "JSON with spaces in names": json.dumps({"data": [{f" {name} ": value for name, value in COMPLETE.items()}]}),
    "JSON of text": json.dumps({"data": [{name: f" {value} " for name, value in COMPLETE.items()}]}),
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_one_row_is_read_the_same_however_it_is_written(read: Any, content: str) -> None:
    assert same(read(content.encode()), COMPLETE)


@pytest.mark.parametrize(
    "content",
    [
        'SPACE{SPACE"data": [SPACEROWSPACE,SPACEROWSPACE,SPACEROWSPACE]SPACE}SPACE',
        "ROW\nSPACE\nROW\nSPACEROW\nSPACE",
    ],
    ids=["an array", "lines"],
)
def test_any_white_space_around_rows_is_passed_over(read: Any, content: str) -> None:
    # Longer than a row may be.
    space = " " * (MAX_ROW_BYTES + 1)
    row = {"x91": 0.5}
    assert same(read(content.replace("SPACE", space).replace("ROW", json.dumps(row)).encode()), row, row, row)


def test_a_column_of_latin_1_that_is_not_read_does_no_harm(read: Any) -> None:
    assert same(read("x91,note\n0.4,é\n".encode("latin-1")), {"x91": 0.4})


@pytest.mark.parametrize(
    "mark", ["", " ", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "NaN", "nan", r"\N", "<NA>", '""', " na "]
)
def test_marks_of_a_missing_value_are_missing(read: Any, mark: str) -> None:
    assert same(read(f"x5,x12,x91\nmonday,{mark},{mark}\n".encode()), {"x5": "monday"})
    if '"' not in mark:
        rows = {"data": [{"x5": "monday", "x12": mark, "x91": mark}]}
        assert same(read(json.dumps(rows).encode()), {"x5": "monday"})
        assert same(read(parquet(x5=["monday"], x12=[mark], x91=[mark])), {"x5": "monday"})


AMOUNTS = {"$(66.55)": -66.55, "($66.55)": -66.55, "-$5": -5, "$-5,032.58": -5032.58, "(1,234.50)": -1234.5}
AMOUNTS |= {"$ 66.55": 66.55, "$ (66.55)": -66.55, "1,234,567": 1234567, "1,234": 1234}


@pytest.mark.parametrize(("text", "amount"), AMOUNTS.items())
def test_amounts_are_read(read: Any, text: str, amount: float) -> None:
    assert same(read(f'x12,x91\n"{text}",0.4\n'.encode()), {"x12": amount, "x91": 0.4})
    assert same(read(json.dumps({"data": [{"x12": text}]}).encode()), {"x12": amount})
    assert same(read(parquet(x12=[text])), {"x12": amount})


UNREAD = ["66,55", "(66,55)", "0,99", "0,123", "1,2,3", "1.234,50", "12,", "12345,678", "66,55 €", "€5", "5 USD"]
UNREAD += ["1'234.50", "1\u202f234.50", "1\u00a0234.50", "٣", "(-5)", "--5", "5-", "#DIV/0!", "-inf", "1e3", "9" * 400]


@pytest.mark.parametrize("text", UNREAD)
def test_other_notations_of_amounts_are_refused_by_row_and_column(read: Any, text: str) -> None:
    rows = [{"x12": 1}, {"x12": text}]
    for content in (
        f'x12,x91\n1,2\n"{text}",0.4\n'.encode(),
        json.dumps({"data": rows}).encode(),
        "\n".join(map(json.dumps, rows)).encode(),
        parquet(x12=["1", text]),
        parquet(x12=[b"1", text.encode()]),
    ):
        assert fault(read, content).location == ("file", "data", 1, "x12")


@pytest.mark.parametrize("text", ["0,37", "1,234", "1,234.5", "37%", "$5", "(5)", "1 000", "0x10", "infinity", "true"])
def test_other_notations_of_numbers_are_refused_by_row_and_column(read: Any, text: str) -> None:
    for content in (
        f'x91,x5\n1,\n"{text}",\n'.encode(),
        json.dumps({"data": [{}, {"x91": text}]}).encode(),
        parquet(x91=["1", text]),
    ):
        assert fault(read, content).location == ("file", "data", 1, "x91")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("text", ["66,55", "1,234"])
def test_a_comma_that_may_be_that_of_decimals_is_refused(read: Any, delimiter: str, text: str) -> None:
    content = f"x5,x12,x91\nmonday,1,1\nmonday,{'%'},1\n".replace(",", delimiter).replace("%", text)
    assert fault(read, content.encode()).location == ("file", "data", 1, "x12")


@pytest.mark.parametrize(
    "content",
    [
        b"x12,X12 ,x91\n1,2,3\n",
        b'{"data": [{"x12": 1, "X12": 2}]}',
        b'{"data": [{"x12": 1}, {"x12": 1, " x12": 2}]}',
        b'{"x12": 1, "x12 ": 2}\n',
        parquet(x12=[1.0], X12=[2.0]),
        parquet(**{"x12": [1.0], " x12": [2.0]}),
    ],
)
def test_two_columns_of_one_name_but_for_case_or_spaces_are_refused(read: Any, content: bytes) -> None:
    assert "two columns are named x12" in str(fault(read, content))


def test_columns_that_are_not_read_may_have_any_names(read: Any) -> None:
    assert same(read(b"x0,X0,x12_1,x91,,\n1,2,3,0.4,,\n"), {"x91": 0.4})
    assert same(read(parquet(x0=[1], X0=["a"], x12_1=[2], s=[{"x91": 1}], x91=[0.4])), {"x91": 0.4})


@pytest.mark.parametrize("content", [b"x0,x7\n1,a\n2,b\n", b'{"data": [{"x0": []}, {}]}', parquet(x0=[1, 2])])
def test_rows_of_which_no_column_is_read_are_imputed(read: Any, content: bytes) -> None:
    assert same(read(content), {}, {})


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b'{"data": [{"a": 1}]}', b"x5:x91\n1:2\n", parquet(a=[1])])
def test_a_file_without_columns_is_refused(read: Any, content: bytes) -> None:
    assert fault(read, content).kind == "missing"


def test_a_header_with_unknown_delimiters_is_told_the_known_ones(read: Any) -> None:
    message = str(fault(read, b"x5:x91\nmonday:1\n"))
    assert all(name in message for name in ("comma", "semicolon", "tab", "bar"))


LINES = {
    "x5,x91\nmonday,1\nmonday\n": "line 3 has 1 cells, the header has 2",
    "x5,x91\nmonday,1\n\n1,2,3\n": "line 4 has 3 cells, the header has 2",
    "x5,x91\nmonday,1\n,\n,\n": "line 3 has no values",
    "x5,x91\nmonday,1\n , \n": "line 3 has no values",
    'x5,x91\nmonday,1\n"",""\n': "line 3 has no values",
    'x5,x91\nmonday,1\n"mon"day,1\n': "line 3 has a quotation mark too many or too few",
    'x5,x91\nmonday,1\nmonday,"2\nmonday,3\n': "quotation mark",
    'x5,x91\nmonday,1\n"' + "a,b\n" * 500_000: "quotation mark",
}


@pytest.mark.parametrize(("content", "message"), LINES.items(), ids=range(len(LINES)))
def test_a_faulty_line_is_named(read: Any, content: str, message: str) -> None:
    assert message in str(fault(read, content.encode()))


def test_rows_without_the_values_that_are_read_count(read: Any) -> None:
    assert same(read(b"x5,x91,id\n,,1\nmonday,1,2\n,,3\n"), {}, {"x5": "monday", "x91": 1}, {})


def test_a_column_alone_has_rows_where_cells_are_quoted(read: Any) -> None:
    assert same(read(b'x91\n1\n""\n\n3\n\n'), {"x91": 1}, {}, {"x91": 3})


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


FORMATS = {
    "ZIP": workbook(),
    "gzip": gzip.compress(CSV.encode(), mtime=0),
    "UTF-16": CSV.encode("utf-16"),
    "PDF": b"%PDF-1.7\n",
}


@pytest.mark.parametrize(("name", "content"), FORMATS.items())
def test_a_file_of_another_format_is_told_what_it_is(read: Any, name: str, content: bytes) -> None:
    error = fault(read, content)
    assert name in str(error)
    assert error.kind == "file_format"


NUMBERS = {
    "float32": pa.array([0.5, float("nan"), None], pa.float32()),
    "float16": pa.array([0.5, None, None], pa.float16()),
    "decimal": pa.array([decimal.Decimal("0.50"), None, None]),
    "text": pa.array(["0.5", "", None]),
    "dictionary": pa.array(["0.5", None, None]).dictionary_encode(),
    "bytes": pa.array([b" 0.5", b"NA", None]),
}


@pytest.mark.parametrize("column", NUMBERS.values(), ids=NUMBERS)
def test_parquet_may_hold_numbers_in_any_type(read: Any, column: Any) -> None:
    assert same(read(parquet(x91=column, x12=column)), {"x91": 0.5, "x12": 0.5}, {}, {})


def test_whole_numbers_in_parquet_are_read(read: Any) -> None:
    columns = {"x91": pa.array([7], pa.uint8()), "x12": pa.array([-7], pa.int64())}
    assert same(read(parquet(**columns)), {"x91": 7, "x12": -7})


OTHER_TYPES = [
    *([True], [[1.0]], [[decimal.Decimal("1.5")]], [{"a": 1.0}]),
    *([datetime.date(2020, 1, 1)], [datetime.datetime(2020, 1, 1)]),
]


@pytest.mark.parametrize("values", OTHER_TYPES)
def test_parquet_of_another_type_is_refused_by_row_and_column_where_it_is_read(read: Any, values: list[Any]) -> None:
    column = pa.array([None, *values])
    assert fault(read, parquet(x91=column)).location == ("file", "data", 1, "x91")
    assert fault(read, parquet(x5=column)).location == ("file", "data", 1, "x5")
    assert same(read(parquet(x91=[1.0, 2.0], x99=column)), {"x91": 1}, {"x91": 2})


def test_infinity_in_parquet_is_refused(read: Any) -> None:
    assert fault(read, parquet(x91=[float("inf")])).location == ("file", "data", 0, "x91")


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, 10**400])
def test_what_is_no_number_in_json_is_refused(read: Any, value: Any) -> None:
    rows = [{"x91": 1.0}, {"x91": value, "x0": value}]
    assert fault(read, json.dumps({"data": rows}).encode()).location == ("file", "data", 1, "x91")
    assert same(read(json.dumps({"data": [{"x0": value, "x91": 2}]}).encode()), {"x91": 2})


@pytest.mark.parametrize(
    "content",
    [
        b'{"data": [{"x91": 1},]}',
        b'{"data": [,{"x91": 1}]}',
        b'{"data": [{"x91": 1}{"x91": 1}]}',
        b'{"data": [{"x91": 1}], "data": [{"x91": 2}]}',
        b'{"data": [{"x91": 1}]',
        b'{"data": [{"x91": 1}]]',
        b'{"data": [{"x91": 1}]}}',
        b'{"data": [{"x91": 1]}]}',
        b'{"data": [{"x91": 1}], "a": [}',
        b'{"data" [{"x91": 1}]}',
        b'{"data": [{"x91": 01}]}',
        b'{"data": [{"x91": "\xff"}]}',
        b'{"x91": 1}\n{"x91": 2\n',
        b'{"x91": 1}\n{"x91": Infinity}\n',
    ],
)
def test_what_is_no_json_is_refused(read: Any, content: bytes) -> None:
    assert fault(read, content).kind == "json_invalid"


def test_json_is_read_alike_wherever_its_blocks_end(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"x5": "mon\\day\\", 'é"[{': [[{"x91": "}]"}], '\\"']}
    rows = [{"x12": f"${i},000.5", "x91": i, **other} for i in range(1, 40)]
    texts = [json.dumps({"a": ["]"], "data": rows, "b": {"data": [1]}}), "\n".join(map(json.dumps, rows))]
    for size in (1, 7, 64):
        monkeypatch.setattr("serving.tables.json_arrays.BLOCK_BYTES", size)
        for text in texts:
            assert same(read(text.encode()), *({"x12": float(f"{row['x91']}000.5"), "x91": row["x91"]} for row in rows))


def test_csv_is_read_alike_wherever_its_blocks_end(read: Any) -> None:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["x91", "note", "x53"])
    for i in range(20_000):
        writer.writerow([i, 'monday,1,2\n1,"2"\n,,\n' * (i % 50), -i])
    matrix = read(file.getvalue().encode())
    assert len(file.getvalue()) > 2**23
    assert np.array_equal(matrix[:, VARIABLES.index("x91")], np.arange(20_000))
    assert np.array_equal(matrix[:, VARIABLES.index("x53")], -np.arange(20_000))


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ("monday;1.250;1\nfriday;12.500;0", (0, "x12")),
        ("monday;$1.250;1\nfriday;;2", (0, "x12")),
        ("monday;5;1\nfriday;6;1.234", (1, "x91")),
        ("monday;-1.250;1", (0, "x12")),
    ],
)
def test_points_that_may_stand_before_thousands_are_refused(read: Any, rows: str, place: tuple[int, str]) -> None:
    refused = fault(read, f"x5;x12;x91\n{rows}\n".encode())
    assert (refused.location, refused.kind) == (("file", "data", *place), "ambiguous_point")


@pytest.mark.parametrize("decimal", ["0.4", "1.25", "0.250", ".250", "1.2345", "1250.125"])
def test_one_number_tells_what_points_stand_for(read: Any, decimal: str) -> None:
    content = f"x5;x12;x91\nmonday;1.250;1\nfriday;2;{decimal}\n".encode()
    assert np.array_equal(read(content), read(content.replace(b";", b",")), equal_nan=True)


@pytest.mark.parametrize(
    "second", ['{"x12":"5\n000"}', '{"x12":5000\n"x91":2}', '{"x12":5},{"x12":6}', '{"x12":5} {"x12":6}', '[{"x12":5}]']
)
def test_each_line_of_json_is_a_row_by_itself(read: Any, second: str) -> None:
    fault(read, f'{{"x12":1}}\n{second}\n'.encode())


@pytest.mark.parametrize("content", [b"x5,x91\nmonday,1_0\n", b"x5,x12\nmonday,1_0\n", b'{"data":[{"x91":"1_0"}]}'])
def test_underscores_are_no_part_of_numbers(read: Any, content: bytes) -> None:
    assert fault(read, content).location[:3] == ("file", "data", 0)
