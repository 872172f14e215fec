"""Pictures by their format, against Pillow, which decodes and resizes them without a server."""

from __future__ import annotations

import io
import time
from pathlib import Path

from PIL import Image

from benchmarks.speed_bench import SpeedBench, say
from benchmarks.wrk import write_bodies, wrk
from loadtest import inputs
from loadtest.inputs import MULTIPART, Request
from loadtest.processes import tiffin
from serving.cores import available_cores

FORMATS = ("JPEG", "PNG", "WebP")
# The input of the model that Tiffin ships.
SIDE = 32
CONNECTIONS = 10


def files(kind: str) -> list[bytes]:
    """Return the pictures of the load tests, 160 to 640 pixels wide, in a format."""
    found = []
    for content in inputs.pictures():
        file = io.BytesIO()
        Image.open(io.BytesIO(content)).save(file, kind, quality=85)
        found.append(file.getvalue())
    return found


def bare_per_second(pictures: list[bytes], seconds: float) -> float:
    """Return how many pictures all cores decode and resize in a second, by what one does."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        image = Image.open(io.BytesIO(pictures[done % len(pictures)]))
        image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        done += 1
    return done / (time.perf_counter() - started) * available_cores()


def pictures(bench: SpeedBench) -> None:
    """Compare pictures per second, none from a cache, with decoding and resizing each in full size."""
    path = inputs.image(0).path
    with tiffin(bench.home, models="image", cache_max_bytes=0, response_cache_max_bytes=0) as address:
        for kind in FORMATS:
            made = files(kind)
            media_type = f"image/{kind.lower()}"
            forms = [inputs.form("image_file", f"picture.{kind.lower()}", media_type, content) for content in made]
            bodies = write_bodies(bench.folder / kind, (Request(path, MULTIPART, form) for form in forms))

            def measure(_: int, bodies: Path = bodies, made: list[bytes] = made) -> tuple[float, float]:
                found = wrk(address, path, bodies, CONNECTIONS, bench.seconds, 0, MULTIPART)
                return found.per_second, bare_per_second(made, bench.seconds / 2)

            measure(-1)
            ratio, a, b = bench.ratio(measure)
            say(f"pictures, {kind}", ratio, "x Pillow on all cores", f"{a:,.0f} : {b:,.0f} pictures/s")
