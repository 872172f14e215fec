"""The table from errors to responses."""

from __future__ import annotations

import json

import pytest
from starlette.responses import PlainTextResponse

from models.model import InvalidInputError
from serving.bento.errors import StatusError
from serving.http.errors import CLIENT_GONE, ClientGoneError, RefusedError, response_to
from serving.inference import errors
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError

RAISED = {
    InvalidInputError("no image", ("file",), "image_type"): (422, "invalid request: 1 problem"),
    OverloadedError(2.5): (503, "overloaded, try again later"),
    DeadlineExceededError("not answered within 2 seconds"): (504, "not answered within 2 seconds"),
    UnknownModelError("no version 3 of sum"): (404, "no version 3 of sum"),
    ModelFaultError("secret"): (500, "internal error"),
    KeyError("secret"): (500, "internal error"),
}


@pytest.mark.parametrize(("error", "expected"), RAISED.items(), ids=lambda value: type(value).__name__)
def test_each_error_has_a_status_and_a_message(error: Exception, expected: tuple[int, str]) -> None:
    response = response_to(error)
    assert (response.status_code, json.loads(bytes(response.body))["error"]) == expected
    assert StatusError(error).error_code == response.status_code


def test_every_error_of_the_engine_is_in_the_table() -> None:
    defined = {found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)}
    assert defined == {type(error) for error in RAISED} - {KeyError}


def test_an_overload_tells_when_to_try_again() -> None:
    assert response_to(OverloadedError(2.5)).headers["retry-after"] == "3"


def test_invalid_input_tells_where() -> None:
    response = response_to(InvalidInputError("no image", ("file", 0), "image_type"))
    assert json.loads(bytes(response.body))["detail"] == [{"loc": ["file", 0], "msg": "no image", "type": "image_type"}]


def test_a_subclass_counts_as_its_class() -> None:
    class StillUnknownError(UnknownModelError):
        pass

    assert response_to(StillUnknownError()).status_code == 404


def test_a_refusal_is_its_own_response() -> None:
    response = PlainTextResponse("no", 418)
    assert response_to(RefusedError(response)) is response


def test_a_client_that_has_gone_gets_no_standard_status() -> None:
    assert response_to(ClientGoneError()).status_code == CLIENT_GONE
