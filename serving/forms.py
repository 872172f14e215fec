"""Multipart forms, checked before BentoML reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from serving.errors import Problem, error_response, unprocessable

# A file's name becomes the end of a temporary file's name, which file systems limit to 255 bytes.
MAX_FILENAME_BYTES = 200


async def check_form(headers: Headers, body: bytes, files: frozenset[str]) -> Response | None:
    """The refusal of a form that cannot be read or that BentoML would fail on or take for something else."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(headers, stream()).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, UnicodeError) as error:
        message = error.message if isinstance(error, MultiPartException) else "it cannot be read"
        return error_response(HTTPStatus.BAD_REQUEST, f"the body is not a valid form: {message}")
    problems = [problem for name, value in form.multi_items() if (problem := form_problem(name, value, files))]
    await form.close()
    return unprocessable(problems) if problems else None


def form_problem(name: str, value: UploadFile | str, files: frozenset[str]) -> Problem | None:
    """What is wrong with a field of a form, where the fields `files` are to be files and no others."""
    if isinstance(value, UploadFile):
        if name not in files:
            return Problem(loc=[name], msg="Input should not be a file", type="unexpected_file")
        if len((value.filename or "").encode()) > MAX_FILENAME_BYTES:
            return Problem(loc=[name], msg="The filename is too long", type="filename_too_long")
        return None
    if name in files:
        # BentoML would take it for an address and download that.
        return Problem(loc=[name], msg="Input should be a file with a filename", type="file_type")
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return None  # taken as text
    except (ValueError, RecursionError):
        return Problem(loc=[name], msg="Input is nested too deeply or a number too long", type="json_invalid")
    return None
