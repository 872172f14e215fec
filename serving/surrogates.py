r"""Halves of surrogate pairs in JSON, as a client leaves them that cuts a text in the middle of an emoji.

JSON's grammar admits "\ud83d" (RFC 8259, section 8.2), parsers refuse the whole document for it. U+FFFD takes its
place, as in browsers' `TextEncoder`; one bad text among many then costs none of the others its answer.
"""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Request = TypeVar("Request", bound=BaseModel)

# What is whole, at most 64 KB at a time, since nothing else runs meanwhile; or half a pair, as an escape or as bytes
# that UTF-8 does not have.
PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
HALF = re.compile(
    rb"(?:[^\\\xed]{1,1024}+|\\(?:" + PAIR + rb"|u(?![dD][89a-fA-F])|[^u])|\xed(?![\xa0-\xbf])){1,64}+"
    rb"|(?P<escape>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(?P<bytes>\xed[\xa0-\xbf][\x80-\xbf])",
    re.DOTALL,
)
REPLACEMENT = {"escape": rb"\ufffd", "bytes": "\ufffd".encode()}


def replace_halves(body: bytes) -> bytes:
    """Return a JSON document with U+FFFD in the place of each half of a surrogate pair; its length stays the same."""
    return HALF.sub(lambda found: REPLACEMENT.get(found.lastgroup or "", found[0]), body)


def validate_json(schema: type[Request], body: bytes) -> Request:
    """Return what a JSON document holds by its schema, halves of surrogate pairs replaced; ValidationError."""
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > 1 or error.errors(include_input=False)[0]["type"] != "json_invalid":
            raise
        whole = replace_halves(body)
        if whole == body:
            raise
    return schema.model_validate_json(whole)
