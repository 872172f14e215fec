"""A server process that is watched while a program sends it requests for minutes."""

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

# Caches fill up over time, which would look like a leak; so small, they are full soon.
SMALL_CACHES = {"TIFFIN_CACHE_MAX_BYTES": str(2**20), "TIFFIN_RESPONSE_CACHE_MAX_BYTES": str(2**20)}

# Requests whose answers must stay what they were when the server started: path and arguments for httpx.
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
    """A server, and the processes that it consists of."""

    server: Server
    processes: list[psutil.Process]

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:3000."""
        return self.server.address

    @property
    def port(self) -> int:
        """The port of the loopback interface."""
        return int(self.address.rpartition(":")[2])

    def memory_bytes(self) -> int:
        """Resident memory of all processes."""
        return sum(process.memory_info().rss for process in self.processes)

    def open_files(self) -> int:
        """File descriptors of all processes, connections among them."""
        return sum(
            process.num_handles() if sys.platform == "win32" else process.num_fds() for process in self.processes
        )

    def kill(self) -> None:
        """End all processes of a server that hangs, and so would not end when it is asked to."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def print_faults(self) -> None:
        """Print what the server wrote to its log about faults."""
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
    """A server with all models of the tests' store."""
    with started_server(shipped_store(), env) as server:
        process = psutil.Process(server.process.pid)
        yield WatchedServer(server, [process, *process.children(recursive=True)])


def known_answers(client: httpx.Client) -> list[Any]:
    """The answers to the requests KNOWN, computed anew; those that the contract gives are checked."""
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
    """Whether two answers are equal, but for rounding: a batch's other items may change the order of sums."""
    if isinstance(answer, dict) and isinstance(other, dict):
        return answer.keys() == other.keys() and all(same(answer[name], other[name]) for name in answer)
    if isinstance(answer, list) and isinstance(other, list):
        return len(answer) == len(other) and all(map(same, answer, other))
    if isinstance(answer, float) and isinstance(other, float):
        return abs(answer - other) <= 1e-4 + 1e-4 * abs(other)
    return bool(answer == other)
