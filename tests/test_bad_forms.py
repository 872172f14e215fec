"""Bad forms, by mistake or malice, get the status and message of the contract, never a 5xx."""

from __future__ import annotations

import httpx
import pytest

from tests.support.answers import classify
from tests.support.bad_input import FORM_ROUTES, NESTED, error_details
from tests.support.photos import photo


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("media_type", ["application/json", "image/png", "application/vnd.bentoml+pickle", ""])
def test_form_routes_refuse_other_media_types(client: httpx.Client, path: str, media_type: str) -> None:
    response = client.post(path, content=b'{"image_file": "/etc/passwd"}', headers={"content-type": media_type})
    error_details(response, 415)


BROKEN_FORMS = [b"", b"junk", b"--x", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc']


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("body", BROKEN_FORMS)
def test_a_broken_form_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    response = client.post(path, content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert response.status_code in (400, 422)
    error_details(response, response.status_code)


@pytest.mark.parametrize("path", FORM_ROUTES)
def test_a_form_without_boundary_is_400(client: httpx.Client, path: str) -> None:
    error_details(client.post(path, content=b"--x--", headers={"content-type": "multipart/form-data"}), 400)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/image/predict", "image_file"), ("/image/infer", "items"), ("/segmentation/uploadfile", "file")],
)
@pytest.mark.parametrize("value", ["http://127.0.0.1:9/", "/etc/passwd", "abc", ""])
def test_text_in_place_of_a_file_is_422(client: httpx.Client, path: str, field: str, value: str) -> None:
    (problem,) = error_details(client.post(path, files={field: (None, value)}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "file_type")


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("field", ["other", "with_resize"])
def test_a_file_in_another_field_is_422(client: httpx.Client, path: str, field: str) -> None:
    (problem,) = error_details(client.post(path, files={field: ("a", b"\xff\x00")}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "unexpected_file")


@pytest.mark.parametrize("value", [NESTED, "1" * 5_000, "\ud7ff", "a" * 100_000, "1e999", "NaN"])
def test_odd_text_in_another_field_is_no_fault_of_the_server(client: httpx.Client, value: str) -> None:
    assert classify(client, photo(), other=value).status_code in (200, 422)
    error_details(classify(client, photo(), with_resize=value), 422)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/image/predict", "image_file"), ("/image/infer", "items"), ("/segmentation/uploadfile", "file")],
)
def test_a_missing_file_is_422(client: httpx.Client, path: str, field: str) -> None:
    (problem,) = error_details(client.post(path, files={"other": (None, "a")}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "missing")


@pytest.mark.parametrize("name", ["a" * 201, "é" * 150])
def test_an_overlong_filename_is_422(client: httpx.Client, name: str) -> None:
    error_details(client.post("/image/predict", files={"image_file": (name, photo())}), 422)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "é😀.png", "a" * 200, ".", "..", "/", "a\\b", "%00"])
def test_a_strange_filename_does_no_harm(client: httpx.Client, name: str) -> None:
    assert client.post("/image/predict", files={"image_file": (name, photo())}).status_code == 200


def test_a_filename_with_a_null_byte_is_no_fault_of_the_server(client: httpx.Client) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image_file"; filename="a\x00b"\r\n\r\n'
        + photo()
        + b"\r\n--x--\r\n"
    )
    response = client.post("/image/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert response.status_code in (200, 400, 422)


@pytest.mark.parametrize("field", ["with_resize", "with_post_process"])
@pytest.mark.parametrize("value", ["perhaps", "2", "[]", "null", "{}"])
def test_a_switch_that_is_no_boolean_is_422(client: httpx.Client, field: str, value: str) -> None:
    (problem,) = error_details(classify(client, photo(), **{field: value}), 422)
    assert problem["loc"] == [field]
