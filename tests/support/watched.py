"""A server process whose memory, open files and responses can be watched under load."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from tests.support.photos import photo
from tests.support.rows import OTHER_ROW, ROW, TUMOUR
from tests.support.servers import Server, started_server
from tests.support.stores import shipped_store

# A cache that fills up looks like a leak; caches this small are full soon.
SMALL_CACHES = {"TIFFIN_CACHE_MAX_BYTES": str(2**20), "TIFFIN_RESPONSE_CACHE_MAX_BYTES": str(2**20)}

# Requests whose responses must not change while the server runs: path and arguments for httpx.
KNOWN: list[tuple[str, dict[str, Any]]] = [
    ("/sentiment/predict", {"json": {"text": ["a wonderful film", "a waste of time"]}}),
    ("/sentiment/infer", {"json": {"items": ["a delight from start to finish"]}}),
    ("/breast_cancer/predict", {"json": TUMOUR}),
    ("/breast_cancer/infer", {"json": {"items": [TUMOUR]}}),
    ("/segmentation/predict", {"json": {"data": [ROW, OTHER_ROW]}}),
    ("/segmentation/infer", {"json": {"items": [ROW]}}),
    ("/segmentation/uploadfile", {"files": {"file": ("rows.csv", b"x91,x5,x12\n0.5,monday,$3\n")}}),
    ("/image/predict", {"files": {"image_file": ("picture.png", photo())}}),
    ("/image/infer", {"files": {"items": ("picture.jpeg", photo("JPEG", (300, 200)))}}),
]


@dataclass(frozen=True)
class WatchedServer:
    """A server and all of its processes."""

    server: Server
    processes: list[psutil.Process]

    @property
    def address(self) -> str:
        """The base URL, such as http://127.0.0.1:3000."""
        return self.server.address

    @property
    def port(self) -> int:
        """The port on the loopback interface."""
        return int(self.address.rpartition(":")[2])

    def memory_bytes(self) -> int:
        """Return the resident memory of all processes, in bytes."""
        return sum(process.memory_info().rss for process in self.processes)

    def open_files(self) -> int:
        """Return the number of file descriptors (handles on Windows) of all processes, connections included."""
        return sum(
            process.num_handles() if sys.platform == "win32" else process.num_fds() for process in self.processes
        )

    def kill(self) -> None:
        """Kill all processes of a server that hangs and would ignore SIGTERM."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def print_faults(self) -> None:
        """Print how many log lines are about errors, and the last of them."""
        lines = [
            line
            for line in self.server.log.read_text(encoding="utf-8", errors="replace").splitlines()
            if "Error" in line
        ]
        print(f"\nthe server's log has {len(lines)} lines about errors; the last:")
        for line in lines[-5:]:
            print(line.replace("\\n", "\n")[-3_000:])


@contextlib.contextmanager
def watched(env: dict[str, str]) -> Iterator[WatchedServer]:
    """Start a server with all models of the tests' store."""
    with started_server(shipped_store(), env) as server:
        process = psutil.Process(server.process.pid)
        yield WatchedServer(server, [process, *process.children(recursive=True)])


def known_answers(client: httpx.Client) -> list[Any]:
    """Send the requests in KNOWN past all caches; check the contract's examples; return all response bodies."""
    answers = []
    for path, arguments in KNOWN:
        response = client.post(path, headers={"cache-control": "no-store"}, **arguments)
        if response.status_code != 200:
            raise AssertionError(f"{path} answered {response.status_code}: {response.text[:500]}")
        answers.append(response.json())
    assert answers[2] == {"label": "M", "prediction": 1}, answers[2]
    assert [ranked[0]["label"] for ranked in answers[0]["predictions"]] == ["POSITIVE", "NEGATIVE"], answers[0]
    return answers


def same(answer: Any, other: Any) -> bool:
    """Return whether two response bodies are equal up to rounding, since the batch that an item is in affects it."""
    if isinstance(answer, dict) and isinstance(other, dict):
        return answer.keys() == other.keys() and all(same(answer[name], other[name]) for name in answer)
    if isinstance(answer, list) and isinstance(other, list):
        return len(answer) == len(other) and all(map(same, answer, other))
    if isinstance(answer, float) and isinstance(other, float):
        return abs(answer - other) <= 1e-4 + 1e-4 * abs(other)
    return bool(answer == other)
