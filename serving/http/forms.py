"""Multipart forms, read once as they arrive: files go to the disk, the rest stays small."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from serving.http.errors import ErrorDetail, RefusedError, error_response, overloaded, unprocessable

# A file's name becomes the end of a temporary file's name in BentoML, which file systems limit to 255 bytes.
MAX_FILENAME_BYTES = 200
MAX_TEXT_BYTES = 2**16
# How much is parsed at a time; and how much is written at a time, beside the event loop.
PARSE_BYTES = 2**16
WRITE_BYTES = 2**20


@dataclass
class Part:
    """One part of a form: its headers while they are read, then the name of its field and its file or text."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header: bytes = b""
    value: bytes = b""
    name: str = ""
    is_file: bool = False
    file: IO[bytes] | None = None
    text: bytearray = field(default_factory=bytearray)


class Form:
    """A form of at most `max_parts` parts, in which the fields `files`, and no others, must be files.

    After `read`, `fields` has a path for each file and a value for each other field, JSON or text. With `keep`, a file
    is written to a temporary file, removed when the context ends; without it no file is written, and a field may have
    several.
    """

    def __init__(self, content_type: bytes, files: frozenset[str], max_parts: int, *, keep: bool) -> None:
        self.files = files
        self.max_parts = max_parts
        self.keep = keep
        self.fields: dict[str, Any] = {}
        self.details: list[ErrorDetail] = []
        self.parts = 0
        self.part = Part()
        self.written: list[IO[bytes]] = []
        self.unwritten: list[tuple[IO[bytes], bytes]] = []
        self.unwritten_bytes = 0
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise unreadable("it has no boundary")
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self.begin_part,
                    "on_header_field": self.add_header_name,
                    "on_header_value": self.add_header_value,
                    "on_header_end": self.end_header,
                    "on_headers_finished": self.end_headers,
                    "on_part_data": self.add_data,
                    "on_part_end": self.end_part,
                },
            )
        except FormParserError as error:
            raise unreadable(str(error)) from None

    def __enter__(self) -> Form:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close and remove the temporary files."""
        for file in self.written:
            file.close()
            with contextlib.suppress(OSError):  # Windows keeps what is still being read
                Path(file.name).unlink(missing_ok=True)

    async def read(self, start: bytes, rest: AsyncIterator[bytes]) -> None:
        """Read the whole form, its `start` and the `rest`; raise RefusedError when it cannot be read or used."""
        try:
            for at in range(0, len(start), PARSE_BYTES):
                await self.feed(start[at : at + PARSE_BYTES])
                await asyncio.sleep(0)
            async for chunk in rest:
                await self.feed(chunk)
            self.write()
        except (FormParserError, UnicodeError) as error:
            raise unreadable(str(error)) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RefusedError(overloaded(1, "there is no room for the file")) from error
        if self.parser.state != MultipartState.END:
            raise unreadable("it ends early")
        if self.details:
            raise RefusedError(unprocessable(self.details))

    async def feed(self, chunk: bytes) -> None:
        """Parse a piece of the form; write to the files once enough is waiting."""
        self.parser.write(chunk)
        if self.unwritten_bytes >= WRITE_BYTES:
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Write what has been read of the files; close those that are complete."""
        for file, data in self.unwritten:
            if data:
                file.write(data)
            else:
                file.close()
        self.unwritten, self.unwritten_bytes = [], 0

    def begin_part(self) -> None:
        """Begin a part; raise RefusedError when the form has too many."""
        self.parts += 1
        if self.parts > self.max_parts:
            raise unreadable(f"it has more than {self.max_parts} parts")
        self.part = Part()

    def add_header_name(self, data: bytes, start: int, end: int) -> None:
        """Append to the current header's name."""
        self.part.header += data[start:end]

    def add_header_value(self, data: bytes, start: int, end: int) -> None:
        """Append to the current header's value."""
        self.part.value += data[start:end]

    def end_header(self) -> None:
        """Store the current header and begin the next one."""
        self.part.headers[self.part.header.lower()] = self.part.value
        self.part.header = self.part.value = b""

    def end_headers(self) -> None:
        """Find out from its headers what the part is; open a temporary file for one that is to be kept."""
        part = self.part
        _, options = parse_options_header(part.headers.get(b"content-disposition"))
        if b"name" not in options:
            raise unreadable("a part has no Content-Disposition with a name")
        part.name = text_of(options[b"name"])
        part.is_file = b"filename" in options
        detail = self.header_fault(part, options.get(b"filename", b""))
        if detail is not None:
            self.details.append(detail)
        elif part.is_file and self.keep:
            part.file = tempfile.NamedTemporaryFile(prefix="tiffin-", delete=False)  # noqa: SIM115  # until the form ends
            self.written.append(part.file)
            self.fields[part.name] = Path(part.file.name)

    def header_fault(self, part: Part, filename: bytes) -> ErrorDetail | None:
        """Return the error that a part's headers show, or None."""
        if not part.is_file:
            if part.name in self.files:
                # BentoML would take it for an address and download that.
                return ErrorDetail(loc=[part.name], msg="Input should be a file with a filename", type="file_type")
            return None
        if self.keep and part.name in self.fields:
            return ErrorDetail(loc=[part.name], msg="Input should be given once", type="duplicate_field")
        if part.name not in self.files:
            told = f"Input should not be a file; files go into the field {' or '.join(sorted(self.files))}"
            return ErrorDetail(loc=[part.name], msg=told, type="unexpected_file")
        if len(filename) > MAX_FILENAME_BYTES:
            return ErrorDetail(loc=[part.name], msg="The filename is too long", type="filename_too_long")
        return None

    def add_data(self, data: bytes, start: int, end: int) -> None:
        """Append to the part's file or text."""
        part = self.part
        if part.file is not None:
            self.unwritten.append((part.file, data[start:end]))
            self.unwritten_bytes += end - start
        elif not part.is_file and len(part.text) <= MAX_TEXT_BYTES:
            part.text += data[start:end]

    def end_part(self) -> None:
        """Finish the part's file, or store its text."""
        part = self.part
        if part.file is not None:
            self.unwritten.append((part.file, b""))
            part.file = None
        elif not part.is_file and part.name not in self.files:
            self.keep_text(part.name, part.text)

    def keep_text(self, name: str, text: bytearray) -> None:
        """Store a field that is not a file, parsed as JSON or else as text; note the error if it cannot be used."""
        if len(text) > MAX_TEXT_BYTES:
            message = f"Input should have at most {MAX_TEXT_BYTES:,} bytes"
            self.details.append(ErrorDetail(loc=[name], msg=message, type="string_too_long"))
            return
        if self.keep and name in self.fields:
            self.details.append(ErrorDetail(loc=[name], msg="Input should be given once", type="duplicate_field"))
            return
        value = text_of(text)
        try:
            self.fields[name] = json.loads(value)
        except json.JSONDecodeError:
            self.fields[name] = value
        except (ValueError, RecursionError):
            message = "Input is nested too deeply or a number too long"
            self.details.append(ErrorDetail(loc=[name], msg=message, type="json_invalid"))


def text_of(data: bytes | bytearray) -> str:
    """Decode text as UTF-8, which nearly all is, or else as Latin-1."""
    try:
        return data.decode()
    except UnicodeError:
        return data.decode("latin-1")


def unreadable(why: str) -> RefusedError:
    """Return the refusal of a form that cannot be read."""
    return RefusedError(error_response(HTTPStatus.BAD_REQUEST, f"the body is not a valid form: {why}"))
