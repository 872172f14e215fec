r"""Halves of surrogate pairs in JSON, left by clients that cut a text in the middle of an emoji.

JSON's grammar admits "\ud83d" (RFC 8259, section 8.2), but parsers refuse the whole document for it. U+FFFD takes its
place, as in browsers' `TextEncoder`; one bad text among many then costs none of the others its answer.
"""

from __future__ import annotations

import re

# What is whole, at most 64 KB at a time, since nothing else runs meanwhile; or halves of pairs, as escapes or as bytes
# that UTF-8 does not have.
PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
HALF = re.compile(
    rb"(?:[^\\\xed]{1,1024}+|\\(?:" + PAIR + rb"|u(?![dD][89a-fA-F])|[^u])|\xed(?![\xa0-\xbf])){1,64}+"
    rb"|(?P<escape>(?:\\(?!" + PAIR + rb")u[dD][89a-fA-F][0-9a-fA-F]{2}){1,1024}+)"
    rb"|(?P<bytes>(?:\xed[\xa0-\xbf][\x80-\xbf]){1,1024}+)",
    re.DOTALL,
)
# A document without these has no halves. They are looked for in pieces, since nothing else runs meanwhile.
SIGNS = (b"\\ud", b"\\uD", b"\xed")
PIECE_BYTES = 2**18
REPLACEMENT = {"escape": rb"\ufffd", "bytes": "\ufffd".encode()}


def replace_halves(body: bytes) -> bytes:
    """Replace each half of a surrogate pair in a JSON document with U+FFFD; its length stays the same."""
    if not may_have_halves(body):
        return body

    def whole(found: re.Match[bytes]) -> bytes:
        if found.lastgroup is None:
            return found[0]
        replacement = REPLACEMENT[found.lastgroup]
        return replacement * (len(found[0]) // len(replacement))

    return HALF.sub(whole, body)


def may_have_halves(body: bytes) -> bool:
    """Return whether a JSON document may have halves of surrogate pairs; also True for one with whole pairs."""
    longest = max(map(len, SIGNS))
    pieces = (body[start : start + PIECE_BYTES + longest - 1] for start in range(0, len(body), PIECE_BYTES))
    return any(sign in piece for piece in pieces for sign in SIGNS)
