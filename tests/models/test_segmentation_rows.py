"""Rows in JSON bodies: the fast parser accepts, rejects and reads what the schema does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, FailFast, ValidationError

from models.model import Array
from models.segmentation import rows
from models.segmentation.columns import EXAMPLE, USED
from models.segmentation.infer_rows import without_unread
from models.segmentation.rows import MAX_ROWS, Row, Rows, read_rows

# JSON values and malformed ones, put in the place of a value.
ODD_VALUES = [
    "null", "true", "false", "0", "-0", "-0.0", "1", "1.5", "1E5", "1e-400", "1e308", "1e309", "1e999", "-1e999",
    "9007199254740993", "18446744073709551617", "9" * 30, "9" * 309, "9" * 4_300, "9" * 4_301, "0." + "1" * 5_000,
    "NaN", "Infinity", "-Infinity", "-NaN", "nan", "01", "1.", ".5", "+1", "-", "1e", "0x1", "1_0", "--1", "",
    '""', '"monday"', '"mon\\u0064ay"', '"m\\u00f6n"', '"mön"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00"', '"\\x"',
    '"\\u12"', '"\x01"', '"\n"', '"a\\nb"', '"\\/"', '"\\u0000"', '"abc', "'a'",
    '"$5,547.78"', '"($66.55)"', '"$-5,032.58"', '" $6,882.34 "', '"66,55"', '"much"', '"1"', '"NaN"', '"1e3"',
    f'"{"9" * 400}"', f'"{"9" * 4_301}"', '"\\u0024\\u0035"', '"\u0663"', '"{{{{[[[["',
    "[]", "{}", "[1, 2]", '{"a": {"b": [null, NaN]}}', "[1,]", '{"a":1,}', "{1: 2}",
    "[" * 100 + "]" * 100, "[" * 197 + "]" * 197, "[" * 198 + "]" * 198, "[" * 250 + "]" * 250,
    '{"a":' * 250 + "1" + "}" * 250, "[" * 5_000 + "]" * 5_000,
]  # fmt: skip
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**25), 10**25)
TEXT = st.text(max_size=8)
VALUES = (
    st.sampled_from(ODD_VALUES)
    | (NUMBERS | TEXT | st.none() | st.booleans()).map(json.dumps)
    | TEXT.map(lambda text: json.dumps(text, ensure_ascii=False))
    | NUMBERS.map(lambda number: json.dumps(f"${number}"))
)
# Columns that the model reads, one that it does not, other spellings of their names, and malformed names.
NAMES = st.sampled_from(
    [*(f'"{name}"' for name in USED), '"x0"', '"x63"', '"y"', '"\\u00785"', '"x5 "', '"X5"', '""', '"\\ud800"', "x5"]
)
SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r ", "\x0c", "\u00a0"])
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
DATA = st.sampled_from(['"data"'] * 9 + ['"d\\u0061ta"', '"dat"'])
JUNK = st.sampled_from([b"", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x00", b"]", b",", b'"', b"\xef\xbb\xbf"])
FITTING = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | (TEXT if name in ("x5", "x31", "x81") else st.floats(allow_nan=False, allow_infinity=False))
        for name in USED
    },
)


def written(pairs: list[tuple[str, str]]) -> str:
    """Join names and values, all JSON text already, into a JSON object."""
    return "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"


ROWS = FITTING.map(json.dumps) | PAIRS.map(written) | st.sampled_from(["null", "[]", "1", '"row"', "{", "}"])
# Most bodies have several rows, with an odd one among them.
LISTS = st.lists(FITTING.map(json.dumps), max_size=6).flatmap(
    lambda fitting: st.lists(ROWS, max_size=2).map(lambda odd: [*fitting, *odd, *fitting[:1]])
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a body as clients send it, except for an odd detail."""
    space = draw(SPACE)
    data = f"[{space}{f'{space},'.join(draw(LISTS))}]"
    outer = [(f'"{name}"', value) for name, value in draw(st.lists(st.tuples(st.just("z") | TEXT, VALUES), max_size=1))]
    outer.insert(draw(st.integers(0, len(outer))), (draw(DATA), data))
    if draw(st.integers(0, 9)) == 0:
        outer.append(('"data"', draw(VALUES | st.just(data))))
    body = (draw(SPACE) + written(outer) + draw(SPACE)).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        junk = draw(
            st.sampled_from([b"", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x00", b"]", b",", b'"', b"\xef\xbb\xbf"])
        )
        body = body[:place] + junk + body[place + draw(st.integers(0, 3)) :]
    return body


def outcome(read: Callable[[bytes], Any], body: bytes) -> Array | list[Any]:
    """Return the features of a body's rows, or the location, message and type of each error."""
    try:
        return np.asarray(read(body).features())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        # Line and column refer to a slice where rows are read in slices, so they are not compared.
        return [(fault["loc"], fault["msg"].partition(" at line ")[0], fault["type"]) for fault in faults]


def same(body: bytes) -> bool:
    """Return whether the fast parser and the schema have the same outcome."""
    fast, slow = outcome(read_rows, body), outcome(Rows.model_validate_json, body)
    if isinstance(fast, np.ndarray) and isinstance(slow, np.ndarray):
        return fast.dtype == slow.dtype and np.array_equal(fast, slow, equal_nan=True)
    return type(fast) is type(slow) and fast == slow


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Any:
    """Shrink the slices so that the bodies of these tests have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "SLICE_ROWS", 2)
        yield


@given(bodies())
@settings(max_examples=200, deadline=None)
@example(b"")
@example(b"{}")
@example(b"[]")
@example(b'{"data": 1}')
@example(b'{"data": [], "data": [{}]}')
@example(b'{"data": 1, "data": [{"x91": 1}]}')
@example(b'{"data": [{"x91": "a", "x53": "b"}]}')
@example(b'{"data": [{"x91": "a", "x91": 1, "x5": 1, "x5": "sunday"}, {"x12": true}]}')
@example(b'{"data": [{}], "z": "\xff"}')
def test_both_ways_have_the_same_outcome(body: bytes) -> None:
    assert same(body)


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
@pytest.mark.parametrize("name", ["x5", "x12", "x91", "y"])
def test_both_ways_take_odd_values_for_the_same(name: str, value: str) -> None:
    assert same(f'{{"data": [{{}}, {{"x53": 1}}, {{"{name}": {value}}}]}}'.encode())
    assert same(f'{{"{name}": {value}, "data": [{{"x53": 1}}]}}'.encode())


@pytest.mark.parametrize("count", [MAX_ROWS, MAX_ROWS + 1])
def test_both_ways_take_as_many_rows(count: int) -> None:
    assert same(json.dumps({"data": [{}] * count}).encode())


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_both_ways_take_any_bytes_for_the_same(body: bytes) -> None:
    assert same(body)


def test_rows_as_clients_send_them_are_read_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    pretty = json.dumps({"data": [EXAMPLE, {"x5": "mön"}, {"y": {"a": [1]}}]}, ensure_ascii=False, indent=4)
    expected = outcome(Rows.model_validate_json, pretty.encode())
    monkeypatch.setattr(rows, "Rows", None)
    monkeypatch.setattr(rows, "Slice", None)
    assert np.array_equal(outcome(read_rows, pretty.encode()), expected, equal_nan=True)


@pytest.mark.parametrize("name", ["X91", " x91", "x91 ", "\\u0058\u00391", "\\tx91"])
@pytest.mark.parametrize("read", [read_rows, Rows.model_validate_json])
def test_a_column_is_known_whatever_its_case_and_spaces(read: Callable[[bytes], Any], name: str) -> None:
    expected = outcome(read, b'{"data": [{"x91": 2.5, "x5": "monday"}]}')
    assert np.array_equal(outcome(read, f'{{"data": [{{"{name}": 2.5, "x5": "monday"}}]}}'.encode()), expected, True)


@pytest.mark.parametrize("read", [read_rows, Rows.model_validate_json])
def test_two_columns_that_differ_by_case_or_spaces_are_refused(read: Callable[[bytes], Any]) -> None:
    ((place, message, kind),) = outcome(read, b'{"data": [{}, {"x91": 1, "X91": 2}]}')
    assert (place, kind) == (("data", 1), "duplicate_column")
    assert "x91" in message


def test_deep_extras_of_rows_are_passed_over() -> None:
    body = json.dumps({"data": [{"x91": 1.5, "meta": {"a": [1]}}] * 1_000}).encode()
    assert same(body)
    assert isinstance(outcome(read_rows, body), np.ndarray)


def items(body: bytes) -> Any:
    """Return the items of a body of `infer`, or the location, message and type of each error."""
    try:
        return Infer.model_validate_json(body).items
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        return [(fault["loc"], fault["msg"].partition(" at line ")[0], fault["type"]) for fault in faults]


class Infer(BaseModel):
    items: Annotated[list[Row], FailFast()]


@given(bodies())
@settings(max_examples=100, deadline=None)
@example(b'{"items": [{"X91": 1, "x91": 2}]}')
@example(b'{"items": [{"X91": 1, "x5": "monday"}, {"x91": 2, "y": [1]}]}')
def test_what_is_not_read_changes_nothing(body: bytes) -> None:
    body = body.replace(b'"data"', b'"items"')
    assert items(without_unread(body)) == items(body)


def test_what_is_not_read_is_left_out() -> None:
    body = json.dumps({"items": [{"x0": 1, "x91": 2, "y": 3}, {"X12": "$5", "x63": "a"}, {}], "z": 1}).encode()
    assert json.loads(without_unread(body)) == {"items": [{"x91": 2}, {"x12": "$5"}, {}]}


BIG = "a" * 2**20


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{}, BIG]},
        {"data": [{}] * (MAX_ROWS + 2), "a": BIG},
        {"data": BIG},
        {"data": {"a": BIG}},
        {"data": None, "a": BIG},
        {"other": [BIG]},
        [BIG],
        BIG,
        {"data": [], "a": BIG},
        {"data": [{"x91": 1}, {"x91": "a"}], "a": BIG},
    ],
)
def test_a_large_body_is_refused_as_the_schema_does_it(body: Any) -> None:
    written = json.dumps(body).encode()
    fast, slow = (
        [(place, kind) for place, _, kind in outcome(read, written)] for read in (read_rows, Rows.model_validate_json)
    )
    assert fast == slow
    with pytest.raises(ValidationError, match="json_invalid"):
        read_rows(written[:-1])


def test_a_row_of_a_mebibyte_is_refused_by_its_number() -> None:
    body = json.dumps({"data": [{"x91": 1}, {"x91": 2, "note": BIG}]}).encode()
    ((place, _, kind),) = outcome(read_rows, body)
    assert (place, kind) == (("data", 1), "dict_type")
    assert items(without_unread(body.replace(b'"data"', b'"items"')))[0][0] == ("items", 1)


def test_a_long_category_of_infer_is_cut_and_still_none() -> None:
    row = {"x5": " monday" + "y" * 300_000, "x31": " japan ", "x12": "$5", "y": 1}
    assert json.loads(without_unread(json.dumps({"items": [row]}).encode()))["items"] == [
        {"x5": "mondayyyyy", "x31": "japan", "x12": 5.0}
    ]


def test_what_stands_beside_the_rows_may_be_nested_as_deeply_as_pydantic_reads_it() -> None:
    for inner, fits in (("[],", True), ("[" * 250 + "]" * 250 + ",", False)):
        body = ('{"data": [{}], "beside": [' + inner * 200 + "1]}").encode()
        assert isinstance(outcome(read_rows, body), np.ndarray) == fits
        assert same(body)


def test_a_long_list_of_lists_beside_the_rows_is_refused_by_its_name() -> None:
    body = json.dumps({"data": [{}], "beside": [[]] * 200 + [BIG]}).encode()
    ((place, message, kind),) = outcome(read_rows, body)
    assert (place, kind) == (("beside",), "json_too_long")
    assert "1,048,576 bytes" in message


def test_of_rows_that_are_long_fewer_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SLICE_ROWS", 500)
    texts = [json.dumps({"x1": "a" * 400_000}).encode()] * 6 + [b"{}"] * 600
    slices = rows.cut([*map(msgspec.Raw, texts)])
    assert max(map(len, slices)) < 2**21
    assert [len(json.loads(part)) for part in slices] == [3, 3, 500, 100]


def test_too_many_rows_of_infer_are_refused_without_being_parsed() -> None:
    body = b'{"items": [' + b'{"a": 1},' * MAX_ROWS + b"{}]}"
    assert len(without_unread(body)) < len(body) // 2
    assert len(items(without_unread(body))) == MAX_ROWS + 1
