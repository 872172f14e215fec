"""What clients send by mistake or malice, per route: the status and message of the contract, never a 5xx."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.test_contract import ROW, TUMOUR, classify, photo, saved, written

JSON = {"content-type": "application/json"}
NESTED = "[" * 100_000 + "]" * 100_000


def problems(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    """The entries of an error's answer, whose form is checked."""
    assert response.status_code == status, response.text[:500]
    body = response.json()
    assert set(body) == {"error", "detail"}
    assert body["error"]
    for entry in body["detail"]:
        assert set(entry) == {"loc", "msg", "type"}
    assert len(response.content) < 20_000, "an error must not echo a whole body"
    return list(body["detail"])


def changed(valid: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (valid | changes).items() if value is not ...}


# path, body, location and type of the only problem
UNPROCESSABLE = [
    # sentiment
    ("/sentiment/predict", {}, ["text"], "missing"),
    ("/sentiment/predict", [], [], "model_type"),
    ("/sentiment/predict", "text", [], "model_type"),
    ("/sentiment/predict", None, [], "model_type"),
    ("/sentiment/predict", {"texts": ["a"]}, ["text"], "missing"),
    ("/sentiment/predict", {"text": "a"}, ["text"], "list_type"),
    ("/sentiment/predict", {"text": None}, ["text"], "list_type"),
    ("/sentiment/predict", {"text": []}, ["text"], "too_short"),
    ("/sentiment/predict", {"text": ["a"] * 257}, ["text"], "too_long"),
    ("/sentiment/predict", {"text": ["a", ""]}, ["text", 1], "string_too_short"),
    ("/sentiment/predict", {"text": ["a" * 10_001]}, ["text", 0], "string_too_long"),
    ("/sentiment/predict", {"text": [1]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [None]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [["a"]]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [{"a": "b"}]}, ["text", 0], "string_type"),
    # breast_cancer
    ("/breast_cancer/predict", changed(TUMOUR, area_se=...), ["area_se"], "missing"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=None), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se="large"), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=True), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=[153.4]), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=-1), ["area_se"], "greater_than_equal"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=-1e-300), ["area_se"], "greater_than_equal"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=float("nan")), ["area_se"], "finite_number"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=float("inf")), ["area_se"], "finite_number"),
    ("/breast_cancer/predict", [TUMOUR], [], "model_type"),
    # segmentation
    ("/segmentation/predict", {}, ["data"], "missing"),
    ("/segmentation/predict", {"data": []}, ["data"], "too_short"),
    ("/segmentation/predict", {"data": {}}, ["data"], "list_type"),
    ("/segmentation/predict", {"data": ROW}, ["data"], "list_type"),
    ("/segmentation/predict", {"data": [[1, 2]]}, ["data", 0], "dict_type"),
    ("/segmentation/predict", {"data": [{}, None]}, ["data", 1], "dict_type"),
    ("/segmentation/predict", {"data": [{}] * 10_001}, ["data"], "too_long"),
    ("/segmentation/predict", {"data": [{"x91": "abc"}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": True}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": [1]}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": float("nan")}]}, ["data", 0, "x91"], "finite_number"),
    ("/segmentation/predict", {"data": [{"x12": float("-inf")}]}, ["data", 0, "x12"], "finite_number"),
    ("/segmentation/predict", {"data": [{"x5": 1}]}, ["data", 0, "x5"], "string_type"),
    ("/segmentation/predict", {"data": [{"x12": "much"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": "($5"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": ""}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x91": 1}] * 700 + [{"x91": {}}]}, ["data", 700, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x12": "66,55"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": {}}]}, ["data", 0, "x12"], "float_type"),
    # infer
    ("/sentiment/infer", {"items": []}, ["items"], "too_short"),
    ("/sentiment/infer", {"items": [1]}, ["items", 0], "string_type"),
    ("/sentiment/infer", {"items": ["a"] * 257}, ["items"], "too_long"),
    ("/breast_cancer/infer", {"items": [changed(TUMOUR, area_se=-1)]}, ["items", 0, "area_se"], "greater_than_equal"),
    ("/segmentation/infer", {"items": [{"x12": "much"}]}, ["items", 0, "x12"], "money"),
]


@pytest.mark.parametrize(("path", "body", "location", "kind"), UNPROCESSABLE)
def test_what_does_not_fit_the_schema_is_422(
    client: httpx.Client, path: str, body: Any, location: list[str | int], kind: str
) -> None:
    (problem,) = problems(client.post(path, content=json.dumps(body), headers=JSON), 422)
    assert (problem["loc"], problem["type"]) == (location, kind)


def test_each_problem_has_an_entry(client: httpx.Client) -> None:
    response = client.post(
        "/breast_cancer/predict", json=changed(TUMOUR, area_se=-1, texture_worst="a", area_worst=...)
    )
    assert {entry["loc"][0] for entry in problems(response, 422)} == {"area_se", "texture_worst", "area_worst"}


@pytest.mark.parametrize("name", TUMOUR)
@pytest.mark.parametrize("zero", [0, -0.0])
def test_a_measurement_may_be_zero(client: httpx.Client, name: str, zero: float) -> None:
    row = changed(TUMOUR, **{name: zero})
    assert client.post("/breast_cancer/predict", json=row).status_code == 200
    assert client.post("/breast_cancer/infer", json={"items": [row]}).status_code == 200


def test_a_number_that_overflows_is_422(client: httpx.Client) -> None:
    body = json.dumps(TUMOUR).replace("153.4", "1e999")
    (problem,) = problems(client.post("/breast_cancer/predict", content=body, headers=JSON), 422)
    assert problem["type"] == "finite_number"


def test_an_amount_that_overflows_is_422(client: httpx.Client) -> None:
    (problem,) = problems(client.post("/segmentation/predict", json={"data": [{"x12": "9" * 400}]}), 422)
    assert problem["loc"] == ["data", 0, "x12"]


def test_extra_fields_are_ignored(client: httpx.Client) -> None:
    assert client.post("/breast_cancer/predict", json=TUMOUR | {"extra": 1}).status_code == 200
    assert client.post("/sentiment/predict", json={"text": ["a"], "extra": 1}).status_code == 200


@pytest.mark.parametrize("value", ["abc", True, [1], {"a": [float("nan")]}, "$3"])
def test_columns_that_the_model_does_not_read_may_hold_anything(client: httpx.Client, value: Any) -> None:
    row = {"x5": "monday", "x0": value, "x63": value, "x82": value, "y": value}
    predicted = client.post("/segmentation/predict", content=json.dumps({"data": [row]}), headers=JSON)
    inferred = client.post("/segmentation/infer", content=json.dumps({"items": [row]}), headers=JSON)
    assert predicted.status_code == 200, predicted.text
    assert inferred.status_code == 200, inferred.text


def test_a_huge_number_is_answered(client: httpx.Client) -> None:
    assert client.post("/breast_cancer/predict", json=changed(TUMOUR, area_se=1e300)).status_code == 200
    body = {"data": [{"x91": 1e300, "x53": 1e300}, {"x91": -1e300, "x12": 1e308}]}
    for probability in client.post("/segmentation/predict", json=body).json()["class_probability"]:
        assert 0 <= probability <= 1


JSON_ROUTES = ["/sentiment/predict", "/breast_cancer/predict", "/segmentation/predict", "/sentiment/infer"]
FORM_ROUTES = ["/image/predict", "/image/infer", "/segmentation/uploadfile"]

UNREADABLE = [
    b"",
    b"{",
    b'{"text": ["a"]',
    b"text",
    b"{'text': 1}",
    b"\xff\xfe\x00",
    b'{"text": ["\xff"]}',
    b'{"text": ["\\ud8"]}',
    b"{} {}",
    b"\x00" * 100,
    NESTED.encode()[:8_000],
]


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_unreadable_json_is_400(client: httpx.Client, path: str, body: bytes) -> None:
    problems(client.post(path, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sentiment/predict", b'{"text": ["fine", "cut \\ud83d"]}'),
        ("/sentiment/infer", b'{"items": ["fine", "cut \\ud83d"]}'),
        ("/segmentation/predict", b'{"data": [{"x5": "\\ude00"}, {"x91": 1.5}]}'),
        ("/segmentation/infer", b'{"items": [{"x5": "\\ude00"}, {"x91": 1.5}]}'),
    ],
)
def test_half_an_emoji_costs_the_others_nothing(client: httpx.Client, path: str, body: bytes) -> None:
    assert client.post(path, content=body, headers=JSON).status_code == 200


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/vnd.bentoml+pickle"],
)
def test_json_routes_refuse_other_media_types(client: httpx.Client, path: str, media_type: str) -> None:
    problems(client.post(path, content=b"{}", headers={"content-type": media_type}), 415)


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("media_type", ["application/json", "image/png", "application/vnd.bentoml+pickle", ""])
def test_form_routes_refuse_other_media_types(client: httpx.Client, path: str, media_type: str) -> None:
    problems(client.post(path, content=b'{"image_file": "/etc/passwd"}', headers={"content-type": media_type}), 415)


def test_a_charset_and_capitals_are_admitted(client: httpx.Client) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/breast_cancer/predict", content=json.dumps(TUMOUR), headers=headers).status_code == 200


BROKEN_FORMS = [b"", b"junk", b"--x", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc']


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("body", BROKEN_FORMS)
def test_a_broken_form_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    response = client.post(path, content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert response.status_code in (400, 422)
    problems(response, response.status_code)


@pytest.mark.parametrize("path", FORM_ROUTES)
def test_a_form_without_boundary_is_400(client: httpx.Client, path: str) -> None:
    problems(client.post(path, content=b"--x--", headers={"content-type": "multipart/form-data"}), 400)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/image/predict", "image_file"), ("/image/infer", "items"), ("/segmentation/uploadfile", "file")],
)
@pytest.mark.parametrize("value", ["http://127.0.0.1:9/", "/etc/passwd", "abc", ""])
def test_text_in_place_of_a_file_is_422(client: httpx.Client, path: str, field: str, value: str) -> None:
    (problem,) = problems(client.post(path, files={field: (None, value)}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "file_type")


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("field", ["other", "with_resize"])
def test_a_file_in_another_field_is_422(client: httpx.Client, path: str, field: str) -> None:
    (problem,) = problems(client.post(path, files={field: ("a", b"\xff\x00")}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "unexpected_file")


@pytest.mark.parametrize("value", [NESTED, "1" * 5_000, "\ud7ff", "a" * 100_000, "1e999", "NaN"])
def test_odd_text_in_another_field_is_no_fault_of_the_server(client: httpx.Client, value: str) -> None:
    assert classify(client, photo(), other=value).status_code in (200, 422)
    problems(classify(client, photo(), with_resize=value), 422)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/image/predict", "image_file"), ("/image/infer", "items"), ("/segmentation/uploadfile", "file")],
)
def test_a_missing_file_is_422(client: httpx.Client, path: str, field: str) -> None:
    (problem,) = problems(client.post(path, files={"other": (None, "a")}), 422)
    assert (problem["loc"], problem["type"]) == ([field], "missing")


@pytest.mark.parametrize("name", ["a" * 201, "é" * 150])
def test_an_overlong_filename_is_422(client: httpx.Client, name: str) -> None:
    problems(client.post("/image/predict", files={"image_file": (name, photo())}), 422)


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
    (problem,) = problems(classify(client, photo(), **{field: value}), 422)
    assert problem["loc"] == [field]


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file that claims to have this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


NOT_IMAGES = {
    "empty": b"",
    "text": b"not an image",
    "html": b"<html></html>",
    "gif": saved(Image.new("P", (32, 32)), "GIF"),
    "bmp": saved(Image.new("RGB", (32, 32)), "BMP"),
    "truncated jpeg": photo("JPEG", (300, 300))[:2_000],
    "jpeg header": photo("JPEG")[:20],
    "truncated png": photo("PNG", (300, 300))[:-500],
    "png of no pixels": png_header(0, 0),
    "png without data": png_header(100, 100),
    "truncated webp": photo("WEBP", (300, 300))[:-500],
    "null bytes": b"\0" * 10_000,
}


@pytest.mark.parametrize("content", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_not_an_image_is_422(client: httpx.Client, content: bytes) -> None:
    (problem,) = problems(classify(client, content), 422)
    assert (problem["loc"], problem["type"]) == (["image_file"], "image_format")


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (5_001, 5_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_of_too_many_pixels_is_422(client: httpx.Client, width: int, height: int) -> None:
    (problem,) = problems(classify(client, png_header(width, height)), 422)
    assert problem["type"] in ("image_pixels", "image_format")


def test_a_real_decompression_bomb_is_422(client: httpx.Client) -> None:
    bomb = saved(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 500_000
    (problem,) = problems(classify(client, bomb), 422)
    assert problem["type"] == "image_pixels"


def animation() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)


def rotated() -> bytes:
    """A JPEG whose EXIF data says that it lies on its side."""
    image = Image.open(io.BytesIO(photo("PNG", (48, 32)))).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, "JPEG", exif=exif.tobytes())


GREY = Image.open(io.BytesIO(photo())).convert("L")
ODD_IMAGES = {
    "cmyk jpeg": saved(GREY.convert("CMYK"), "JPEG"),
    "grey jpeg": saved(GREY, "JPEG"),
    "grey png": saved(GREY, "PNG"),
    "16 bit png": saved(Image.fromarray((np.arange(1024).reshape(32, 32) * 64).astype(np.uint16)), "PNG"),
    "1 bit png": saved(GREY.convert("1"), "PNG"),
    "palette png": saved(GREY.convert("P"), "PNG"),
    "transparent palette png": saved(GREY.convert("P"), "PNG", transparency=0),
    "rgba png": saved(GREY.convert("RGBA"), "PNG"),
    "grey and alpha png": saved(GREY.convert("LA"), "PNG"),
    "animated webp": animation(),
    "rotated jpeg": rotated(),
    "one pixel": saved(Image.new("RGB", (1, 1)), "PNG"),
    "a line": saved(Image.new("RGB", (5_000, 1)), "PNG"),
    "progressive jpeg": saved(GREY, "JPEG", progressive=True),
}


@pytest.mark.parametrize("content", ODD_IMAGES.values(), ids=ODD_IMAGES)
def test_odd_images_are_answered(client: httpx.Client, content: bytes) -> None:
    assert classify(client, content).status_code == 200


def test_a_rotated_image_is_turned_upright(client: httpx.Client) -> None:
    upright = Image.open(io.BytesIO(rotated())).transpose(Image.Transpose.ROTATE_270)
    expected = classify(client, saved(upright, "PNG"), with_post_process="false").json()["logits"]
    assert classify(client, rotated(), with_post_process="false").json()["logits"] == pytest.approx(expected, abs=1e-4)


def test_a_grey_image_of_16_bits_is_that_of_8_bits(client: httpx.Client) -> None:
    wide = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 256)
    expected = classify(client, saved(GREY, "PNG"), with_post_process="false").json()["logits"]
    assert classify(client, saved(wide, "PNG"), with_post_process="false").json()["logits"] == pytest.approx(expected)


def test_of_an_animation_the_first_frame_is_classified(client: httpx.Client) -> None:
    first = saved(Image.new("RGB", (32, 32), "red"), "PNG")
    expected = classify(client, first, with_post_process="false").json()["logits"]
    assert classify(client, animation(), with_post_process="false").json()["logits"] == pytest.approx(
        expected, abs=0.05
    )


STRANGE_TEXTS = {
    "emoji": "😀👨‍👩‍👧‍👦🏳️‍🌈",
    "null bytes": "good\x00bad\x00",
    "only null bytes": "\x00" * 100,
    "right to left": "فيلم رائع \u202e dlrow",
    "white space": " \t\n\r\u00a0\u2003",
    "control characters": "".join(map(chr, range(1, 32))),
    "combining": "e" + "\u0301" * 9_000,
    "one word": "a" * 10_000,
    "ideographs": "好" * 10_000,
    "highest plane": "\U0010ffff" * 100,
    "replacement": "\ufffd\ufeff",
    "special tokens": "[CLS] [SEP] [MASK] [PAD] [UNK]",
}


@pytest.mark.parametrize("text", STRANGE_TEXTS.values(), ids=STRANGE_TEXTS)
def test_strange_texts_are_answered(client: httpx.Client, text: str) -> None:
    predictions = client.post("/sentiment/predict", json={"text": [text]}).json()["predictions"]
    assert sum(entry["score"] for entry in predictions[0]) == pytest.approx(1)


@pytest.mark.parametrize("category", ["", "😀", "\x00", "a" * 100_000, "فيلم"])
def test_strange_categories_are_the_reference(client: httpx.Client, category: str) -> None:
    body = {"data": [{"x5": category}, {"x5": None}]}
    first, second = client.post("/segmentation/predict", json=body).json()["class_probability"]
    assert first == second


def upload(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/segmentation/uploadfile", files={"file": ("rows", content)})


def parquet(**columns: Any) -> bytes:
    return written(pa.table(columns))


BAD_FILES = [
    (b"", ["file"], "too_short"),
    (b"\n\n", ["file"], "too_short"),
    (b"x1,x2\n", ["file"], "too_short"),
    (b"a,b\n1,2\n", ["file"], "missing"),
    (b"x5,x91\n1\n", ["file"], "csv"),
    (b"x5,x91\n1,2,3\n", ["file"], "csv"),
    (b'x5,x91\n"1,2\n', ["file"], "csv"),
    (b"x5,x91\n\xff,1\n", ["file"], "csv"),
    (b"x91,x53\n1,2\n3,abc\n", ["file", "data", 1, "x53"], "float_parsing"),
    (b"x91,x53\n1,inf\n", ["file", "data", 0, "x53"], "finite_number"),
    (b"x91,x12\n1,much\n", ["file", "data", 0, "x12"], "money"),
    (b"x91\n" + b"1\n" * 100_001, ["file"], "too_long"),
    (b"x91\n" + b"1" * 1_000_000 + b"\n", ["file", "data", 0, "x91"], "float_parsing"),
    (b"x91\n" + b"1" * 3_000_000 + b"\n", ["file"], "csv"),
    (b"{", ["file"], "json_invalid"),
    (b"{}", ["file"], "missing"),
    (b"[]", ["file"], "missing"),
    (b'{"rows": [{"x91": 1}]}', ["file"], "missing"),
    (b'{"data": []}', ["file"], "too_short"),
    (b'{"data": [{"x91": 1},]}', ["file"], "json_invalid"),
    (b'{"data": [{"x91": 1}]} {}', ["file"], "json_invalid"),
    (b'{"data": [1]}', ["file", "data", 0], "dict_type"),
    (b'{"data": [{"x91": "a"}]}', ["file", "data", 0, "x91"], "float_parsing"),
    (b'{"data": [{"x91": [1]}]}', ["file", "data", 0, "x91"], "float_type"),
    (b'{"data": [{"x91": NaN}]}', ["file"], "json_invalid"),
    (b'{"data": [{"x91": 1}', ["file"], "json_invalid"),
    (b'{"data": [' + NESTED.encode() + b"]}", ["file"], "json_invalid"),
    (b"PAR1", ["file"], "parquet"),
    (b"PAR1" + b"\0" * 100 + b"PAR1", ["file"], "parquet"),
    (parquet(x91=[1.0])[:-20], ["file"], "parquet"),
    (parquet(x91=["a"]), ["file", "data", 0, "x91"], "float_parsing"),
    (parquet(x5=[1]), ["file", "data", 0, "x5"], "string_type"),
    (parquet(a=[1]), ["file"], "missing"),
    (parquet(x91=[None, [1.0]]), ["file", "data", 1, "x91"], "float_parsing"),
    (parquet(x91=pa.array([], pa.float64())), ["file"], "too_short"),
    (parquet(x91=pa.nulls(100_001, pa.float64())), ["file"], "too_long"),
]


@pytest.mark.parametrize(("content", "location", "kind"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_bad_file_is_422(client: httpx.Client, content: bytes, location: list[str | int], kind: str) -> None:
    (problem,) = problems(upload(client, content), 422)
    assert (problem["loc"], problem["type"]) == (location, kind)


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_parquet_file_is_no_fault_of_the_server(client: httpx.Client, seed: int) -> None:
    content = bytearray(parquet(x91=[1.0, 2.0] * 500, x5=["monday", None] * 500, x12=["$1", "($2)"] * 500))
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(content), 10):
        content[place] = rng.integers(256)
    assert upload(client, bytes(content)).status_code in (200, 422)


def test_the_faulty_line_of_a_csv_file_is_named(client: httpx.Client) -> None:
    (problem,) = problems(upload(client, b"x91,x53\n1,2\n\n3\n4,5\n"), 422)
    assert problem["msg"] == "line 4 has 1 cells, the header has 2"


def test_nan_in_parquet_is_missing(client: httpx.Client) -> None:
    first, second = upload(client, parquet(x91=[float("nan"), None])).json()["class_probability"]
    assert first == second


def test_a_csv_file_may_have_a_byte_order_mark(client: httpx.Client) -> None:
    assert upload(client, "\ufeffx91,x5\r\n0.5,monday\r\n".encode()).status_code == 200


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    body = b'{"text": ["' + b"a" * (32 * 2**20) + b'"]}'
    problems(client.post("/sentiment/predict", content=body, headers=JSON), 413)


def test_a_body_over_the_limit_without_declared_length_is_413(client: httpx.Client) -> None:
    def chunks() -> Any:
        for _ in range(33):
            yield b"a" * 2**20

    problems(client.post("/sentiment/predict", content=chunks(), headers=JSON), 413)


def test_a_picture_over_the_limit_is_413(client: httpx.Client) -> None:
    problems(classify(client, b"\0" * (33 * 2**20)), 413)


@pytest.mark.parametrize(
    "path", ["/nothing", "/sentiment", "/sentiment/predict/", "/docs.json/", "/../etc/passwd", "/%00", "/é"]
)
def test_an_unknown_path_is_404(client: httpx.Client, path: str) -> None:
    problems(client.get(path), 404)
    problems(client.post(path, json={}), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/sentiment/predict")
    problems(response, 405)
    assert response.headers["allow"] == "POST"


def test_junk_makes_no_series_of_metrics(client: httpx.Client) -> None:
    for i in range(20):
        client.get(f"/junk-{i}")
    assert "junk" not in client.get("/metrics").text
