"""Sentiment: is an English text positive or negative."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from tokenizers import Tokenizer
from typing_extensions import override

from models.model import (
    CLASSIFICATION,
    LARGE_BYTES,
    RAW_ITEMS,
    UNDECODABLE,
    Array,
    Column,
    Columns,
    Infer,
    LabelScore,
    Model,
    classification,
    ranking,
    route,
    softmax,
    stand_in,
)

MAX_CHARACTERS = 10_000
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
MAX_TEXTS = 256


class Texts(BaseModel):
    """English texts; tokens past the model's maximum length are cut off."""

    model_config = ConfigDict(json_schema_extra={"example": {"text": ["a delight from start to finish", "dull"]}})

    text: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class RawTexts(msgspec.Struct, gc=False):
    """A body whose texts are left as they stand."""

    text: list[msgspec.Raw]


RAW_TEXTS = msgspec.json.Decoder(RawTexts)
# A text takes no more, each character as two escapes.
TEXT_BYTES = 12 * MAX_CHARACTERS + 2
TOO_LONG = "a" * (MAX_CHARACTERS + 1)
TEXT = msgspec.json.Decoder(str)
# In one go pydantic reads a body of so many bytes in a fraction of a millisecond.
AT_ONCE_BYTES = 2**17


def read_texts(body: bytes) -> Texts:
    """Read a JSON body as `Texts.model_validate_json` does, of large ones a text at a time; raises its ValidationError.

    Neither library releases the interpreter lock within a call.
    """
    try:
        if len(body) <= AT_ONCE_BYTES:
            return Texts.model_validate_json(body)
        texts = [read_text(text) for text in RAW_TEXTS.decode(body).text[: MAX_TEXTS + 1]]
    except (ValidationError, *UNDECODABLE):
        return explained(body)
    return Texts.model_validate({"text": texts})


def read_text(text: msgspec.Raw) -> str | None:
    """Return a text; one that is too long in the place of one that cannot but be, None for what is none."""
    if bytes(memoryview(text)[:1]) != b'"':
        return None
    return TEXT.decode(text) if len(text) <= TEXT_BYTES else TOO_LONG


def explained(body: bytes) -> Texts:
    """Read a body as the schema does, which decides; raise its ValidationError, or that of a text that is not UTF-8."""
    try:
        raw = RAW_TEXTS.decode(body).text
    except UNDECODABLE:
        return Texts.model_validate_json(body if len(body) <= LARGE_BYTES else stand_in(body, "text"))
    check_utf8(raw)
    legal = len(body) <= LARGE_BYTES or all(len(text) <= TEXT_BYTES for text in raw)
    return Texts.model_validate_json(body if legal else stand_in(body, "text"))


def check_utf8(texts: list[msgspec.Raw]) -> None:
    """Raise ValidationError for the first text that is not UTF-8, such as one cut in the middle of an emoji."""
    for index, text in enumerate(texts):
        try:
            bytes(memoryview(text)[:TEXT_BYTES]).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            kind = PydanticCustomError("json_invalid", "Invalid JSON: a text that is not UTF-8")
            fault = InitErrorDetails(type=kind, loc=("text", index), input=None)
            raise ValidationError.from_exception_data("Texts", [fault]) from None


def shortened(body: bytes) -> bytes:
    """Return a JSON body of `infer` without escapes, and with short texts in the place of those that are too long.

    A small one stays as it is.
    """
    if len(body) <= LARGE_BYTES:
        return body
    try:
        items = RAW_ITEMS.decode(body).items[: MAX_TEXTS + 1]
    except UNDECODABLE:
        return stand_in(body, "items")
    return b'{"items":[' + b",".join(map(rewritten, items)) + b"]}"


def rewritten(item: msgspec.Raw) -> bytes | msgspec.Raw:
    """Return the JSON of what `read_text` reads; of what is no text as it stands."""
    try:
        text = read_text(item)
    except UNDECODABLE:
        return item
    return item if text is None else msgspec.json.encode(text)


class Sentiments(BaseModel):
    """Per text all labels, highest score first; the scores of a text sum to 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "predictions": [
                    [{"label": "POSITIVE", "score": 0.99}, {"label": "NEGATIVE", "score": 0.01}],
                    [{"label": "NEGATIVE", "score": 0.98}, {"label": "POSITIVE", "score": 0.02}],
                ]
            }
        }
    )

    predictions: list[list[LabelScore]]


class Sentiment(Model[str]):
    """An item is a text, its output the logits (labels,)."""

    input = Text
    input_example = "a delight from start to finish"
    inputs = (Column("text", Text, input_example),)
    outputs = CLASSIFICATION
    max_items = MAX_TEXTS
    # A larger batch gains nothing on a CPU, where work grows with the padded length.
    max_batch = 8

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        self.labels: list[str] = settings["labels"]
        self.graph_inputs: list[str] = settings["inputs"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(settings["max_length"])

    @classmethod
    @override
    def items(cls, columns: Columns) -> list[str]:
        texts: list[str] = columns["text"].tolist()
        return texts

    @classmethod
    @override
    def without_unread(cls, body: bytes) -> bytes:
        return shortened(body)

    @override
    def preprocess(self, item: str) -> dict[str, Array]:
        encoding = self.tokenizer.encode(item)
        arrays = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        return {name: np.array(arrays[name], dtype=np.int64) for name in self.graph_inputs}

    @override
    def columns(self, outputs: Array) -> Columns:
        return classification(softmax(outputs), self.labels)

    @route(decode=read_texts)
    async def predict(self, request: Texts, infer: Infer[str]) -> Sentiments:
        """Classify 1 to 256 texts."""
        scores = softmax(await infer(request.text))
        return Sentiments(predictions=[ranking(row, self.labels) for row in scores])
