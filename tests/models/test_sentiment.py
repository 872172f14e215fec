"""Texts in JSON bodies: reading one text at a time accepts, rejects and reads what the schema does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from models import sentiment
from models.sentiment import MAX_TEXTS, Texts, read_texts


@pytest.fixture(autouse=True, scope="module")
def nothing_at_once() -> Any:
    """Read small bodies one text at a time, as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentiment, "AT_ONCE_BYTES", 0)
        yield


def outcome(read: Callable[[bytes], Texts], body: bytes) -> Any:
    """Return the texts of a body, or the location, message and type of each error."""
    try:
        return read(body).text
    except ValidationError as error:
        return [(fault["loc"], fault["msg"], fault["type"]) for fault in error.errors(include_url=False)]


TEXTS = st.text(max_size=5) | st.sampled_from(["a" * 10_000, "é" * 10_001, "\U0001f600" * 10_000, ""])
VALUES = TEXTS | st.none() | st.integers() | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=1)
WRITTEN = st.sampled_from(['"\\ud83d"', '"\\u00e9\\n"', '"\x01"', '"\\x"', "NaN", "[", '"\t"', "01", '"\u2028"', ""])
BODIES = st.builds(
    lambda texts, odd, name, extra, spaces: (
        f'{spaces}{{"{name}": [{",".join([*map(json.dumps, texts), *odd])}], "extra": {json.dumps(extra)}}}'
    ),
    st.lists(TEXTS | VALUES, max_size=4),
    st.lists(WRITTEN, max_size=1),
    st.sampled_from(["text", "text", "text", "t\\u0065xt", "texts"]),
    VALUES,
    st.sampled_from(["", " \n"]),
).map(str.encode)


@given(BODIES | st.binary(max_size=30))
@example(b'{"text": ["a"], "text": ["b", 1]}')
@example(b'{"text": null}')
@example(json.dumps({"text": ["a"] * MAX_TEXTS}).encode())
@example(json.dumps({"text": ["a"] * (MAX_TEXTS + 1)}).encode())
def test_both_ways_have_the_same_outcome(body: bytes) -> None:
    read, expected = outcome(read_texts, body), outcome(Texts.model_validate_json, body)
    if expected and expected[0][-1] == "json_invalid" and read[0][0]:  # located more exactly than by the schema
        read, expected = read[0][-1], expected[0][-1]
    assert read == expected


@pytest.mark.parametrize("at_once", [0, 2**20])
@pytest.mark.parametrize("cut", [b"tr\xe8s", b"cut \xf0\x9f\x98"])
def test_a_text_that_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch, at_once: int, cut: bytes) -> None:
    monkeypatch.setattr(sentiment, "AT_ONCE_BYTES", at_once)
    ((place, _, kind),) = outcome(read_texts, b'{"text": ["fine", "' + cut + b'", "good"]}')
    assert (place, kind) == (("text", 1), "json_invalid")


BIG = "a" * 2**20


@pytest.mark.parametrize(
    "body",
    [
        {"text": ["fine", BIG]},
        {"text": [BIG]},
        {"text": ["a", "b"] * 200, "extra": BIG},
        {"text": BIG},
        {"text": {"a": BIG}},
        {"text": None, "a": BIG},
        {"other": [BIG]},
        [BIG],
        BIG,
        {"text": [], "a": BIG},
        {"text": ["fine", None], "a": BIG},
        {"text": ["fine", ""], "a": BIG},
        {"text": ["fine"], "a": BIG},
    ],
)
def test_a_large_body_is_refused_as_the_schema_does_it(body: Any) -> None:
    written = json.dumps(body).encode()
    kinds = [
        outcome(read, written)
        if isinstance(body, dict) and body.get("text") == ["fine"]
        else [(place, kind) for place, _, kind in outcome(read, written)]
        for read in (read_texts, Texts.model_validate_json)
    ]
    assert kinds[0] == kinds[1]
    with pytest.raises(ValidationError, match="json_invalid"):
        read_texts(written[:-1])


def test_a_long_text_of_infer_stays_too_long() -> None:
    body = json.dumps({"items": ["fine", BIG, 1, "good"]}).encode()
    items = json.loads(sentiment.shortened(body))["items"]
    assert (items[0], len(items[1]), items[2:]) == ("fine", 10_001, [1, "good"])
    assert sentiment.shortened(b'{"items": ["a"]}') == b'{"items": ["a"]}'
