"""The largest legal requests are answered, and slow ones are waited for."""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from tests.support.servers import serving

NUMBER = -1.2345678901234567e-300
ROW = {
    **{f"x{i}": NUMBER for i in range(100)},
    "x5": "\U0001f600" * 20,
    "x31": "\U0001f600" * 20,
    "x81": "\U0001f600" * 20,
    "x82": "\U0001f600" * 20,
    "x12": "($1,234,567,890.12)",
    "x63": "36.123456789%",
    "y": NUMBER,
    "customer": "1234-5678",
}
TUMOUR = dict.fromkeys(
    ("concavity_mean", "concave_points_mean", "perimeter_se", "area_se", "texture_worst", "area_worst"), -NUMBER
)
TEXTS = ["\U0001f600" * 10_000] * 256
JSON = {"Content-Type": "application/json"}
# Written as widely as JSON allows: every character escaped, a line per value, fields that the schema does not know.
LARGEST: dict[str, Any] = {
    "/sentiment/predict": {"text": TEXTS},
    "/sentiment/infer": {"items": TEXTS},
    "/breast_cancer/predict": {**TUMOUR, "patient": "\U0001f600" * 100, "y": [NUMBER] * 10},
    "/breast_cancer/infer": {"items": [TUMOUR] * 10_000},
    "/segmentation/predict": {"data": [ROW] * 10_000},
    "/segmentation/infer": {"items": [ROW] * 10_000},
}


@pytest.mark.parametrize(("path", "document"), LARGEST.items(), ids=LARGEST)
def test_the_largest_legal_json_is_answered(client: httpx.Client, path: str, document: Any) -> None:
    body = json.dumps(document, indent=4).encode()
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code == 200, response.text[:500]


def noise(side: int) -> bytes:
    """Return a PNG of noise, which cannot be compressed."""
    file = io.BytesIO()
    pixels = random.Random(1).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def test_the_largest_legal_picture_is_answered(client: httpx.Client) -> None:
    picture = noise(3_300)
    assert 0.95 * 2**25 < len(picture) < 2**25
    assert client.post("/image/predict", files={"image_file": ("a.png", picture)}).status_code == 200
    assert client.post("/image/infer", files=[("items", ("a.png", noise(200)))] * 64).status_code == 200


def test_the_most_rows_of_a_file_are_answered(client: httpx.Client) -> None:
    names = ",".join(f"x{i}" for i in range(100))
    line = ",".join("monday" if i == 5 else f"{i}.123456789" for i in range(100))
    content = f"{names}\n" + f"{line}\n" * 100_000
    response = client.post("/segmentation/uploadfile", files={"file": ("rows.csv", content)}, timeout=120)
    assert response.status_code == 200, response.text[:500]
    assert len(response.json()["class_probability"]) == 100_000


class TestSlowClients:
    """Clients that take longer than the server's short time limit."""

    TIMEOUT_SECONDS = 1
    # Past BentoML's own timeout, which is five seconds longer.
    UPLOAD_SECONDS = TIMEOUT_SECONDS + 7

    @pytest.fixture(scope="class")
    def server(self, store: Path) -> Iterator[str]:
        env = {
            "TIFFIN_MODELS": "segmentation",
            "TIFFIN_TIMEOUT_SECONDS": str(self.TIMEOUT_SECONDS),
            "TIFFIN_BODY_TIMEOUT_SECONDS": str(self.TIMEOUT_SECONDS),
        }
        with serving(store, env) as address:
            yield address

    def test_an_upload_is_received_while_it_progresses(self, server: str) -> None:
        def body() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nx91,x0\n'
            until = time.monotonic() + self.UPLOAD_SECONDS
            while time.monotonic() < until:
                yield b"0.5,1\n" * 12_000
                time.sleep(self.TIMEOUT_SECONDS / 2)
            yield b"\r\n--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = httpx.post(f"{server}/segmentation/uploadfile", content=body(), headers=headers, timeout=60)
        assert response.status_code in (200, 422)  # on a slow machine it may have too few or too many rows
        assert "class_probability" in response.json() or "rows" in response.text

    @pytest.mark.parametrize("trickle", [False, True])
    def test_a_stalled_body_is_408_and_the_connection_ends(self, server: str, trickle: bool) -> None:
        address = urlsplit(server)
        with socket.create_connection((address.hostname, address.port), 60) as connection:
            connection.sendall(
                b"POST /segmentation/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n"
            )
            received = b""
            connection.settimeout(0.1 if trickle else 60)
            while b"408" not in received:
                try:
                    received += connection.recv(2**16)
                except TimeoutError:
                    connection.send(b" ")
            connection.settimeout(60)
            with contextlib.suppress(ConnectionResetError):  # where a byte of the trickle came after the end
                while piece := connection.recv(2**16):
                    received += piece
        assert b"connection: close" in received.lower()
