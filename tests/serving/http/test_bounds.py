"""Bounds on JSON bodies, derived from their schemas."""

from __future__ import annotations

import json
from typing import Annotated, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from serving.http.bounds import MIN_BYTES, MIN_VALUES, PIECE_BYTES, has_more_values, json_bound


class Few(BaseModel):
    a: float
    b: bool


class Text(BaseModel):
    text: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=300)]


class Row(BaseModel):
    x: float | None = None
    category: str | None = None
    inside: Few | None = None


class Table(BaseModel):
    data: Annotated[list[Row], Field(max_length=2_000)]


class Tree(BaseModel):
    branches: list[Tree] = []


def values(document: Any) -> int:
    """Count the values of a JSON document; an empty container counts as if it had one."""
    inside = document.values() if isinstance(document, dict) else document
    return 1 + max(1, sum(map(values, inside))) if isinstance(document, dict | list) else 1


def more_values(body: bytes, most: int) -> bool:
    return anyio.run(has_more_values, body, most)


def test_a_small_schema_has_a_small_bound() -> None:
    assert json_bound(Few) == (MIN_BYTES, MIN_VALUES)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (Text, {"text": ["\U0001f600" * 1_000] * 300}),
        (Text, {"text": [",[{" * 333] * 300}),
        (Table, {"data": [{"x": -1.2345678901234567e-300, "category": "\U0001f600" * 20, "y": 1.5}] * 2_000}),
        (Table, {"data": [{"x": None, "inside": {"a": -1.2345678901234567e-300, "b": False}}] * 2_000}),
    ],
)
@pytest.mark.parametrize("indent", [None, 4])
def test_what_fits_the_schema_is_within_the_bound(schema: type[BaseModel], document: Any, indent: int | None) -> None:
    schema.model_validate(document)
    body = json.dumps(document, indent=indent).encode()
    bound = json_bound(schema)
    assert len(body) <= bound.max_bytes
    assert not more_values(body, bound.max_values)


def test_one_item_too_many_is_within_the_bound() -> None:
    body = json.dumps({"data": [{"x": -1.2345678901234567e-300, "category": "monday"}] * 2_001}).encode()
    bound = json_bound(Table)
    assert len(body) <= bound.max_bytes
    assert not more_values(body, bound.max_values)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'"a"', b'{"a":1}', b"[[[[]]]]"])
def test_many_values_are_over_the_bound(value: bytes) -> None:
    bound = json_bound(Text)
    body = b'{"text":[' + b",".join([value] * (bound.max_values + 1)) + b"]}"
    assert more_values(body, bound.max_values)


def test_a_schema_that_refers_to_itself_has_a_bound() -> None:
    assert json_bound(Tree) == (MIN_BYTES, MIN_VALUES)


JSON = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a,[{"\\é😀'), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_values_are_counted_as_they_are(document: Any) -> None:
    body = json.dumps(document).encode()
    assert not more_values(body, values(document))
    assert more_values(json.dumps([1, [document, 2], {"a": 3}]).encode(), 3)


@pytest.mark.parametrize("before", range(PIECE_BYTES - 4, PIECE_BYTES + 4))
def test_strings_are_known_across_pieces(before: int) -> None:
    text = "a" * before + '",[{\\' * 3 + "b" * PIECE_BYTES + "\\" * 5
    document = [1, text, text, {"a": 2}]
    body = json.dumps(document).encode()
    assert not more_values(body, values(document))
    assert more_values(body, values(document) - 2)
