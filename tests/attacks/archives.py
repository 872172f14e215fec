"""ZIP archives of any size to be uploaded: legal ones of pictures, and hostile ones."""

from __future__ import annotations

import functools
import io
import struct
import zipfile

from tests.attacks import files
from tests.attacks.json_bodies import Maker

# A picture is no larger, since noise of more pixels than are admitted would be.
PICTURE_BYTES = 24 * 2**20
MAX_FILES = 1_000
HEAD = b"PK\x03\x04"


def archive(contents: list[bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for number, content in enumerate(contents):
            made.writestr(f"{number}.png", content)
    return file.getvalue()


def legal(size: int) -> bytes:
    """Return an archive of pictures of nearly `size` bytes."""
    count = -(-size // PICTURE_BYTES)
    return archive([files.picture(size // count - 300)] * count)


@functools.cache
def bomb(count: int) -> bytes:
    """Return a small archive of `count` files that unpack to 32 MiB each."""
    return archive([bytes(2**25)] * count, zipfile.ZIP_DEFLATED)


def directory(size: int) -> bytes:
    """Return an archive that is nearly all directory."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<5H2I", 4, 0, 0, 0, 0, 0, 0) + b"a.pn"
    count = (size - 30) // len(entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, count * len(entry), 4, 0)
    return HEAD + entry * count + end


def hostile() -> dict[str, Maker]:
    """Return generators of hostile archives of any size, by name."""
    pictures = files.hostile_pictures()
    return {
        **{name: functools.partial(of_one, make) for name, make in pictures.items()},
        "an archive that unpacks": lambda size: HEAD.ljust(size - len(bomb(15)), b"\0") + bomb(15),
        "an archive that unpacks to too much": lambda size: bomb(17),
        "an archive of a directory": directory,
        "an archive of empty files": lambda size: archive([b""] * min(MAX_FILES, size // 200)).rjust(size, b"\0"),
        "an archive of markers": lambda size: HEAD.ljust(size, b"PK\x05\x06"[:1]),
    }


def of_one(make: Maker, size: int) -> bytes:
    """Return an archive of one file."""
    return archive([make(size - 200)])
