r"""Halves of surrogate pairs in JSON, as a client leaves them that cuts a text in the middle of an emoji.

JSON's grammar admits "\ud83d" (RFC 8259, section 8.2), parsers refuse the whole document for it. U+FFFD takes its
place, as in browsers' `TextEncoder`; one bad text among many then costs none of the others its answer.
"""

from __future__ import annotations

import re

# What is whole, at most 64 KB at a time, since nothing else runs meanwhile; or half a pair, as an escape or as bytes
# that UTF-8 does not have.
PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
HALF = re.compile(
    rb"(?:[^\\\xed]{1,1024}+|\\(?:" + PAIR + rb"|u(?![dD][89a-fA-F])|[^u])|\xed(?![\xa0-\xbf])){1,64}+"
    rb"|(?P<escape>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(?P<bytes>\xed[\xa0-\xbf][\x80-\xbf])",
    re.DOTALL,
)
# Without one of these there is none.
SIGNS = (b"\\ud", b"\\uD", b"\xed")
REPLACEMENT = {"escape": rb"\ufffd", "bytes": "\ufffd".encode()}


def replace_halves(body: bytes) -> bytes:
    """Return a JSON document with U+FFFD in the place of each half of a surrogate pair; its length stays the same."""
    return HALF.sub(lambda found: REPLACEMENT.get(found.lastgroup or "", found[0]), body)


def may_have_halves(body: bytes) -> bool:
    """Return whether a JSON document may have halves of surrogate pairs; one with whole pairs may."""
    return any(sign in body for sign in SIGNS)
