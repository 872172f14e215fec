"""A text cut in the middle of an emoji does not fail the other texts of its request."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.sentiment import Texts
from serving.http.surrogates import may_have_halves, replace_halves


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"\ude00", "\ufffd"),
        (rb"\uD83D\uDE00", "\U0001f600"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83dx\ude00", "\ufffdx\ufffd"),
        (rb"\ud83d\n", "\ufffd\n"),
        (rb"\ud83d\u0041", "\ufffdA"),
        (rb"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (rb"\\\ud83d", "\\\ufffd"),
        (b"\xed\xa0\xbd", "\ufffd"),
        (b"\\n\xed\xa0\xbd\xed\x95\x9c", "\n\ufffd한"),
    ],
)
def test_half_an_emoji_becomes_a_replacement_character(written: bytes, read: str) -> None:
    body = b'{"text": ["fine", "' + written + b'", "good \\ud83d\\ude00"]}'
    assert may_have_halves(body)
    assert Texts.model_validate_json(replace_halves(body)).text == ["fine", read, "good \U0001f600"]
    assert len(replace_halves(body)) == len(body)


@given(st.text(st.characters(exclude_categories=())))
@example("\ud83d\ude00\ud83d")
@example("한\\ud83d\\\\\ud83d")
def test_any_text_that_json_can_write_is_read(text: str) -> None:
    pairs = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    body = replace_halves(json.dumps({"text": text}).encode())
    expected = re.sub(
        "[\ud800-\udfff]", "\ufffd", text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    )
    assert json.loads(body)["text"] == expected
    assert len(pairs) >= len(expected)


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_a_document_without_halves_stays_as_it_is(document: object) -> None:
    for ascii_only in (True, False):
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        assert replace_halves(body) == body


@given(st.text(st.characters(exclude_categories=())))
def test_a_document_that_cannot_have_halves_has_none(text: str) -> None:
    for body in (json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")):
        assert may_have_halves(body) or replace_halves(body) == body


@pytest.mark.parametrize(
    "body", [b'{"text": ["\\ud83d"', b'{"text": ["\\ud8zz"]}', b'{"text": ["tr\xe8s"]}', b"\xed\xa0\xbd"]
)
def test_what_is_broken_otherwise_stays_broken(body: bytes) -> None:
    with pytest.raises(ValidationError, match="Invalid JSON"):
        Texts.model_validate_json(replace_halves(body))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(["a" * 10_001], "string_too_long"), ([""], "string_too_short"), ([None], "string_type"), ([7], "string_type")],
)
def test_a_bad_text_is_named_by_its_number_beside_half_an_emoji(bad: list[object], kind: str) -> None:
    body = json.dumps({"text": ["fine", "cut \ud83d", *bad]}).encode()
    with pytest.raises(ValidationError) as caught:
        Texts.model_validate_json(replace_halves(body))
    (problem,) = caught.value.errors()
    assert (problem["loc"], problem["type"]) == (("text", 2), kind)
