"""Measure cases: each of their servers alone on the machine, under the same load."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.compare import servers
from benchmarks.compare.assets import Assets
from benchmarks.compare.cases import Case
from benchmarks.compare.loads import POOL, SAMPLE, WIRE_FORMATS, Scores, WireFormat, differences, mostly_known
from benchmarks.compare.servers import Server, wait_until_idle
from benchmarks.wrk import NoAnswerError, write_bodies, wrk
from loadtest import inputs
from loadtest.inputs import Request

SAMPLES = 20
# Bodies that wrk formats but does not send: one to check the script, and one per connection.
SPARE = 200
TIFFIN = "tiffin"
ANSWER_SECONDS = 300
# More requests than a case sends.
NUMBERS = 20_000_000


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure; how long to wait for an idle machine.

    With `repeats`, a request may be sent twice, for when the figures are not used.
    """

    repetitions: int
    seconds: int
    warm_up_seconds: int
    idle_seconds: float
    repeats: bool = False


@dataclass
class ServerResult:
    """The figures of a server by name and connections: medians, and the values of each repetition.

    `void` says why there are no figures; `busy` is the share of the cores that other programs used beforehand.
    """

    server: str
    engine: str
    figures: dict[str, float] = field(default_factory=dict)
    repetitions: dict[str, list[float]] = field(default_factory=dict)
    busy: float = 0.0
    void: str = ""

    def add(self, figure: str, values: list[float]) -> None:
        """Keep the values of the repetitions and their median."""
        self.repetitions[figure] = values
        self.figures[figure] = statistics.median(values)


class Bodies:
    """Files of bodies for wrk, each written once: phase k of every server gets the same inputs, from number `first`."""

    def __init__(self, folder: Path, case: Case, plan: Plan, first: int = 0) -> None:
        self.folder = folder
        self.case = case
        self.first = first
        self.count = case.most_per_second * max(plan.seconds, plan.warm_up_seconds) + SPARE

    def of(self, form: WireFormat, phase: int) -> Path:
        """Return the file of the bodies of a phase in a server's form."""
        path = self.folder / f"{form.request.__name__}-{phase}"
        if not path.exists():
            first = self.first + phase * self.count
            positions = range(first, first + self.count)
            write_bodies(path, (form.request(self.case.numbers(position)).body for position in positions))
        return path

    def write(self, form: WireFormat, plan: Plan) -> None:
        """Write the files of all phases, before a server runs."""
        if self.case.kind == "load":
            for phase in range(len(self.case.connections) * (plan.repetitions + 1)):
                self.of(form, phase)


@dataclass(frozen=True)
class Start:
    """How a server is started: a peer with an engine and its model, or Tiffin with its home and a model's name.

    Tiffin serves all models when the name is empty.
    """

    name: str
    engine: str
    files: Path
    model: str = ""
    with_redis: bool = False

    def running(self, example: Request) -> AbstractContextManager[Server]:
        """Start the server, and yield it once it has answered an example."""
        if self.name == TIFFIN:
            return servers.tiffin(self.files, example, self.model, with_redis=self.with_redis)
        return servers.peer(self.name, self.engine, self.files, example)


@dataclass
class Task:
    """A case to be measured on a server, the requests, and the results."""

    case: Case
    bodies: Bodies
    form: WireFormat
    measured: ServerResult

    def run(self, server: Server, client: httpx.Client, plan: Plan, expected: Scores) -> Scores:
        """Measure the server and return its scores; raise RuntimeError if they differ from those expected."""
        figures = self.measured.figures
        figures["cold_start_seconds"] = server.cold_start_seconds
        scores = sample(client, self.form, 1 if self.case.kind == "single" else SAMPLES)
        for difference in differences(expected or scores, scores, self.case.tolerance):
            raise RuntimeError(f"{self.measured.server} answers otherwise than Tiffin: {difference}")
        MEASURES[self.case.kind](self, server, client, plan)
        figures["memory_bytes"] = server.memory_bytes()
        figures["redis_bytes"] = server.redis_bytes()
        return scores

    def fail(self, error: Exception) -> None:
        """Record and print why there are no figures."""
        self.measured.void = str(error) or repr(error)
        print(f"{self.measured.server} is void: {self.measured.void}", file=sys.stderr, flush=True)


def compare(cases: Sequence[Case], plan: Plan, home: Path, assets: Assets) -> list[list[ServerResult]]:
    """Measure Tiffin and each peer, by case; a server that several of the cases need is started once."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = planned(cases, plan, home, assets, Path(folder))
        expected: dict[Case, Scores] = {}
        for start, of_server in tasks.items():
            for task in of_server:
                task.bodies.write(task.form, plan)
                task.measured.busy = wait_until_idle(plan.idle_seconds)
            left = list(of_server)
            try:
                with (
                    start.running(left[0].form.request(SAMPLE)) as server,
                    httpx.Client(base_url=server.address, timeout=ANSWER_SECONDS) as client,
                ):
                    while left:
                        task = left.pop(0)
                        try:
                            scores = task.run(server, client, plan, expected.get(task.case, []))
                            expected.setdefault(task.case, scores)
                        except (RuntimeError, httpx.HTTPError) as error:
                            task.fail(error)
            except RuntimeError as error:
                for task in left:
                    task.fail(error)
    of_all = [task for of_server in tasks.values() for task in of_server]
    return [[task.measured for task in of_all if task.case is case] for case in cases]


def planned(cases: Sequence[Case], plan: Plan, home: Path, assets: Assets, folder: Path) -> dict[Start, list[Task]]:
    """Plan what is measured on which server: Tiffin first, whose answers are expected of all others."""
    tasks: dict[Start, list[Task]] = {}
    models = [case.models(home, assets) for case in cases]
    bodies = []
    for number, case in enumerate(cases):
        (folder / str(number)).mkdir()
        # A server that is measured more than once must not know the requests already.
        bodies.append(Bodies(folder / str(number), case, plan, number * NUMBERS))
    for case, (own, _), made in zip(cases, models, bodies, strict=True):
        start = Start(TIFFIN, "", own, case.model, case.with_redis)
        tasks.setdefault(start, []).append(Task(case, made, case.form, ServerResult(TIFFIN, "")))
    for case, (_, theirs), made in zip(cases, models, bodies, strict=True):
        for peer in case.peers:
            start = Start(peer, case.engine, theirs[case.engine])
            measured = ServerResult(peer, case.engine)
            tasks.setdefault(start, []).append(Task(case, made, WIRE_FORMATS.get(peer, case.form), measured))
    return tasks


def sample(client: httpx.Client, form: WireFormat, count: int) -> Scores:
    """Return the scores that a server answers to requests that are not sent again."""
    scores: Scores = []
    for number in range(SAMPLE, SAMPLE + count):
        scores += form.scores(ask(client, form, number))
    return scores


def ask(client: httpx.Client, form: WireFormat, number: int) -> Any:
    """Send a request and return the JSON of its answer; raise RuntimeError unless it is a success."""
    request = form.request(number)
    response = client.post(request.path, content=request.body, headers={"Content-Type": request.content_type})
    if not response.is_success:
        raise RuntimeError(f"{request.path} answers {response.status_code}: {response.text[:500]}")
    return response.json()


def under_load(task: Task, server: Server, client: httpx.Client, plan: Plan) -> None:
    """Measure requests per second, median and p99 in seconds, CPU seconds per 1 000 requests, and wrk's CPU share."""
    if task.case.numbers is mostly_known:
        for number in range(POOL):
            ask(client, task.form, number)
    example = task.form.request(SAMPLE)
    phases = iter(range(1_000))
    for connections in task.case.connections:
        seen: dict[str, list[float]] = {}
        with contextlib.suppress(NoAnswerError):
            file = task.bodies.of(task.form, next(phases))
            wrk(server.address, example.path, file, connections, plan.warm_up_seconds, 0, example.content_type)
        for _ in range(plan.repetitions):
            file = task.bodies.of(task.form, next(phases))
            server.settle()
            cpu = server.cpu_seconds()
            load = wrk(server.address, example.path, file, connections, plan.seconds, 0, example.content_type)
            cpu = server.cpu_seconds() - cpu
            if load.requests + connections > task.bodies.count and not plan.repeats:
                raise RuntimeError(f"{load.requests} requests are more than were made: raise Case.most_per_second")
            row = {
                "per_second": load.per_second,
                "p50": load.p50,
                "p99": load.p99,
                "cpu_per_1000": 1_000 * cpu / load.requests,
                "wrk_share": load.cpu_seconds / plan.seconds / (os.cpu_count() or 1),
            }
            for figure, value in row.items():
                seen.setdefault(figure, []).append(value)
        for figure, values in seen.items():
            task.measured.add(f"{figure}_{connections}", values)


def one_by_one(task: Task, server: Server, client: httpx.Client, plan: Plan) -> None:
    """Measure the seconds that single requests take."""
    taken = []
    for number in range(plan.repetitions + 1):
        request = task.form.request(number)
        started = time.perf_counter()
        client.post(
            request.path, content=request.body, headers={"Content-Type": request.content_type}
        ).raise_for_status()
        taken.append(time.perf_counter() - started)
    task.measured.add("seconds", taken[1:])


def memory(task: Task, server: Server, client: httpx.Client, plan: Plan) -> None:
    """Put load on each model that the server has, before its memory is measured."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for made in inputs.REQUESTS.values() if task.measured.server == TIFFIN else [task.form.request]:
            example = made(SAMPLE)
            file = write_bodies(folder / made.__name__, (made(number).body for number in range(5_000)))
            wrk(server.address, example.path, file, 10, plan.seconds, content_type=example.content_type)


MEASURES = {"load": under_load, "single": one_by_one, "memory": memory}


def ratios(case: Case, found: list[ServerResult]) -> Iterator[dict[str, Any]]:
    """Yield each limit with the ratio that was found, None when a server is void."""
    by_name = {measured.server: measured for measured in found}
    for limit in case.limits:
        ours, theirs = by_name[TIFFIN], by_name[limit.peer]
        row: dict[str, Any] = {"peer": limit.peer, "figure": limit.figure, "asked": limit.limit}
        if ours.void or theirs.void:
            yield {**row, "found": None, "reached": False}
            continue
        ratio = ours.figures[limit.figure] / theirs.figures[limit.figure]
        yield {**row, "found": ratio, "reached": limit.reached(ratio)}
