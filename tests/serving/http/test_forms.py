"""Multipart forms, parsed in pieces."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serving.http.errors import RefusedError
from serving.http.forms import MAX_TEXT_BYTES, PARSE_BYTES, WRITE_BYTES, Form

CONTENT_TYPE = b"multipart/form-data; boundary=x"
FILES = frozenset(("file", "other"))
MAX_PARTS = 20


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """Return a part of a form, with its boundary."""
    given = f'; filename="{filename}"' if filename is not None else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{given}\r\n\r\n'.encode() + content + b"\r\n"


def form_of(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


def read(body: bytes, size: int = PARSE_BYTES, start: int = 0, *, keep: bool = True) -> dict[str, Any]:
    """Parse a form that arrives in pieces; return its fields, with the content in place of each file."""

    async def use() -> dict[str, Any]:
        with Form(CONTENT_TYPE, FILES, MAX_PARTS, keep=keep) as form:
            await form.read(body[:start], pieces(body[start:], size))
            paths = [value for value in form.fields.values() if isinstance(value, Path)]
            fields = {
                name: value.read_bytes() if isinstance(value, Path) else value for name, value in form.fields.items()
            }
        assert not any(path.exists() for path in paths)
        return fields

    return asyncio.run(use())


def refusal(body: bytes, content_type: bytes = CONTENT_TYPE) -> tuple[int, str]:
    """Parse a form that is refused; return the status and body of the response."""

    async def use() -> None:
        with Form(content_type, FILES, MAX_PARTS, keep=True) as form:
            await form.read(body, pieces(b"", 1))

    with pytest.raises(RefusedError) as caught:
        asyncio.run(use())
    return caught.value.response.status_code, bytes(caught.value.response.body).decode()


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("start", [0, 50, 10_000])
def test_fields_and_files_come_as_they_were_sent(size: int, start: int) -> None:
    content = bytes(range(256)) * 4 + b"\r\n--x\r\n--\r\n--xy"
    content = content.replace(b"\r\n--x\r\n", b"\r\n-x\r\n").replace(b"\r\n--xy", b"\r\n--y")
    body = form_of(part("text", "é".encode()), part("file", content, "a.csv"), part("yes", b"true"), part("n", b"[1]"))
    assert read(body, size, start) == {"text": "é", "file": content, "yes": True, "n": [1]}


@pytest.mark.parametrize("size", [0, 1, WRITE_BYTES - 1, WRITE_BYTES, 3 * WRITE_BYTES + 1])
def test_a_file_of_any_size_is_kept_whole(size: int) -> None:
    content = (b"a,\r\nb" * (size // 4 + 1))[:size]
    assert read(form_of(part("file", content, "a"))) == {"file": content}


@pytest.mark.parametrize("twice", [part("file", b"1", "a"), part("n", b"1")])
def test_a_field_that_is_given_twice_is_refused(twice: bytes) -> None:
    status, message = refusal(form_of(twice, twice))
    assert (status, "duplicate_field" in message) == (422, True)
    read(form_of(twice, twice), keep=False)


def test_without_keep_no_file_is_written() -> None:
    assert read(form_of(part("file", b"1", "a"), part("a", b"2")), keep=False) == {"a": 2}


def test_too_many_parts_are_refused() -> None:
    assert len(read(form_of(*(part(f"n{i}", b"1") for i in range(MAX_PARTS))))) == MAX_PARTS
    status, message = refusal(form_of(*(part("n", b"1") for _ in range(MAX_PARTS + 1))))
    assert (status, f"{MAX_PARTS} parts" in message) == (400, True)


def test_a_long_text_is_refused_by_name() -> None:
    assert read(form_of(part("n", b"a" * MAX_TEXT_BYTES)))
    status, message = refusal(form_of(part("n", b"a" * (MAX_TEXT_BYTES + 1)), part("m", b"1")))
    assert (status, '"n"' in message) == (422, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"--x",
        b"--x\r\n\r\na\r\n--x--",
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
        part("n", b"1"),
        b"--x\r\n" + b"a: b\r\n" * 1_000 + b"\r\n\r\n--x--",
        b"--x\r\n" + b"a" * 100_000,
    ],
)
def test_what_is_no_form_is_400(body: bytes) -> None:
    assert refusal(body)[0] == 400


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 1_000])
def test_a_form_without_a_proper_boundary_is_400(content_type: bytes) -> None:
    assert refusal(b"--x--", content_type)[0] == 400


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (part("file", b"text"), "file_type"),
        (part("n", b"1", "a"), "unexpected_file"),
        (part("file", b"1", "a" * 201), "filename_too_long"),
        (part("n", b"[" * 50_000), "json_invalid"),
    ],
)
def test_what_cannot_be_used_is_422(wrong: bytes, kind: str) -> None:
    status, message = refusal(form_of(part("ok", b"1"), wrong))
    assert (status, kind in message) == (422, True)


def test_without_room_on_the_disk_it_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(form: Form) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Form, "write", full)
    assert refusal(form_of(part("file", b"1", "a")))[0] == 503
    gc.collect()


def test_files_go_when_reading_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    refusal(part("file", b"1" * 2 * WRITE_BYTES, "a"))
    assert list(tmp_path.iterdir()) == []
