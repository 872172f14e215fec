"""The bodies of attacks are what they claim to be: of the requested size, and legal or hostile."""

from __future__ import annotations

import gzip
import io
import json
import re
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from PIL import Image
from pydantic import BaseModel, TypeAdapter

import models
from serving.http.uploads import routes_of
from serving.http.v2.bodies import read_request
from serving.oip.columns import columns_of
from tests.attacks import bodies, files, forms, json_bodies
from tests.attacks.__main__ import ATTACKS
from tests.attacks.attackers import Attack
from tests.attacks.targets import Target, targets
from tests.fuzz_large import bodies as large_bodies
from tests.support import ROOT

SIZES = (2**18, 2**20)
ROUTES = {"/breast_cancer/infer", "/breast_cancer/predict", "/image/infer", "/image/predict", "/segmentation/infer"}
ROUTES |= {"/segmentation/predict", "/sentiment/infer", "/sentiment/predict"}
FORMS = {"/image/predict", "/image/infer", "/image/explain"} | {f"/{name}/uploadfile" for name in models.names()}
FORMS |= {f"/{name}/preview" for name in models.names() if name != "image"}
ROUTES |= FORMS | {f"/v2/models/{name}/infer" for name in models.names()}
ROUTES |= {f"/{name}/explain" for name in models.names()}


@pytest.fixture(scope="module")
def routes(client: httpx.Client) -> dict[str, Target]:
    """Return the routes of the server, by path."""
    return {target.path: target for target in targets(client.get("/docs.json").json())}


def validated(path: str, body: bytes) -> Any:
    """Parse a body by its route's schema."""
    *_, name, action = path.split("/")
    model = models.find(name)
    if path.startswith("/v2"):
        return columns_of(read_request(body, None, model).inputs, model)
    if action == "infer":
        return TypeAdapter(list[model.input]).validate_python(json.loads(body)["items"])  # type: ignore[name-defined]
    schema: type[BaseModel] = next(route.request for route in routes_of(name) if route.name == action)
    return schema.model_validate_json(body)


def test_each_route_is_a_target(routes: dict[str, Target]) -> None:
    assert set(routes) == ROUTES


@pytest.mark.parametrize("size", SIZES)
def test_a_legal_body_fits_the_schema_and_the_size(routes: dict[str, Target], size: int) -> None:
    for target in routes.values():
        if not target.form:
            body = json_bodies.legal(target, size)
            assert len(body) == size
            validated(target.path, body)


def test_a_legal_text_has_as_many_characters_as_there_may_be(routes: dict[str, Target]) -> None:
    body = json_bodies.legal(routes["/sentiment/predict"], 2**20)
    assert {len(text) for text in json.loads(body)["text"]} == {10_000}


@pytest.mark.parametrize("size", SIZES)
def test_hostile_json_has_the_size(routes: dict[str, Target], size: int) -> None:
    for target in routes.values():
        if not target.form:
            for name, make in json_bodies.hostile(target).items():
                assert size * 0.9 <= len(make(size)) <= size, f"{target.path}: {name}"


def test_hostile_json_is_refused_by_the_schema(routes: dict[str, Target]) -> None:
    # The others are hostile since they are legal or take long to reject.
    harmless = {"unknown fields", "escaped letters", "no amount", "no percentage", "spaces around nothing"}
    for name, make in json_bodies.hostile(routes["/sentiment/predict"]).items():
        if name not in harmless:
            with pytest.raises(ValueError, match=r"valid|error"):
                validated("/sentiment/predict", make(2**18))


def test_different_keys_are_different() -> None:
    body = json_bodies.keys(2**16)
    assert len(json.loads(body)) == body.count(b":")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("path", sorted(path for path in FORMS if path.endswith("/uploadfile")))
def test_a_legal_upload_is_answered(client: httpx.Client, routes: dict[str, Target], path: str, number: int) -> None:
    form = forms.legal(routes[path], 3 * 2**20, number)
    assert 0.9 * 3 * 2**20 <= len(form) <= 3 * 2**20
    headers = {"Content-Type": forms.MEDIA_TYPE.decode()}
    assert client.post(path, content=form, headers=headers, timeout=60).status_code == 200


@pytest.mark.parametrize("number", range(3))
def test_a_legal_upload_is_read(routes: dict[str, Target], number: int) -> None:
    target = routes["/segmentation/uploadfile"]
    size = 4 * 2**20
    form = forms.legal(target, size, number)
    assert size * 0.9 <= len(form) <= size
    table = form.partition(b"\r\n\r\n")[2].removesuffix(forms.END)
    if number == 0:
        assert pyarrow.parquet.read_table(io.BytesIO(table), columns=["x0"]).num_rows > 10_000
    elif number == 1:
        header, *lines = table.decode().splitlines()
        assert len(lines) > 1_000
        assert header.startswith("x0,x1,")
    else:
        assert len(json.loads(table)["data"]) > 1_000


def test_legal_pictures_are_read(routes: dict[str, Target]) -> None:
    size = 2**20
    for path in ("/image/predict", "/image/infer"):
        form = forms.legal(routes[path], size)
        assert size * 0.9 <= len(form) <= size
        picture = form.partition(b"\r\n\r\n")[2].partition(b"\r\n--x")[0]
        Image.open(io.BytesIO(picture)).load()


def test_hostile_forms_have_the_size(routes: dict[str, Target]) -> None:
    size = 2**20
    small = {
        f"a file: {name}"
        for name in ("Parquet with a large entry", "Parquet of many rows", "an archive that unpacks to too much")
    }
    for path in FORMS:
        for name, make in forms.hostile(routes[path]).items():
            length = len(make(size))
            assert length <= size, f"{path}: {name}"
            assert name in small or length >= size * 0.9, f"{path}: {name}"


def test_bombs_unpack_to_much_more() -> None:
    for file in (files.parquet_bomb(dictionary=False), files.parquet_bomb(dictionary=True), files.parquet_rows()):
        group = pyarrow.parquet.ParquetFile(io.BytesIO(file)).metadata.row_group(0)
        assert len(file) < 2**20
        assert group.column(0).total_uncompressed_size >= files.PAGE_CHARACTERS or group.num_rows == 10_000_000
    padded = files.padded_parquet(files.parquet_bomb(dictionary=False), 2**20)
    assert len(padded) == 2**20
    assert pyarrow.parquet.read_table(io.BytesIO(padded)).num_rows == 2**10
    assert len(bodies.packed()) < 2**21
    with gzip.open(io.BytesIO(bodies.packed())) as packed:
        assert len(packed.read(2**26)) == 2**26


def test_a_route_gets_bodies_at_its_bound_and_two_over_it(routes: dict[str, Target]) -> None:
    target = routes["/breast_cancer/predict"]._replace(max_body_bytes=2**14)
    sent = list(large_bodies(target, 50, number=3))
    lengths = [len(body.make(body.size)) for body in sent]
    assert sum(0.9 * 2**14 <= length <= 2**14 for length in lengths) == 50
    assert [(body.expected, length) for body, length in zip(sent, lengths, strict=True)][-2:] == [(413, 2**14 + 1)] * 2
    assert sent[0].expected == 200
    validated(target.path, sent[0].make(sent[0].size))


def test_the_page_names_each_attack() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert named == list(ATTACKS)
    assert f"{len(ATTACKS)} attacks" in page


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_has_its_requests(routes: dict[str, Target], attack: Attack) -> None:
    small = {path: target._replace(max_body_bytes=2**16) for path, target in routes.items()}
    requests = attack.make(small) if attack.name != "wide-csv" else []
    assert all(b"".join(pieces).startswith(b"POST /") for pieces in requests)
