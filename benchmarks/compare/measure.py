"""Measure cases: each of their servers alone on the machine, under the same load."""

from __future__ import annotations

import contextlib
import itertools
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

import grpc
import httpx

from benchmarks.compare import servers
from benchmarks.compare.assets import Assets
from benchmarks.compare.cases import TIFFIN, Case, tiffin_by
from benchmarks.compare.loads import POOL, SAMPLE, WIRE_FORMATS, Scores, WireFormat, differences, mostly_known
from benchmarks.compare.servers import Server, wait_until_idle
from benchmarks.grpc_load import grpc_load
from benchmarks.wrk import Load, NoAnswerError, write_bodies, wrk
from loadtest import inputs
from loadtest.inputs import Request
from loadtest.messages import MODEL_INFER, read_answer
from loadtest.protocols import GRPC, PREDICT
from loadtest.tensors import HEADER_LENGTH, json_bytes_of, read_body

SAMPLES = 20
# Bodies that wrk formats but does not send: one to check the script, and one per connection.
SPARE = 200
ANSWER_SECONDS = 300
SMALL_CACHES: dict[str, Any] = {"cache_max_bytes": 2**18, "response_cache_max_bytes": 2**18}
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
        made = case.most_per_second * max(plan.seconds, plan.warm_up_seconds) + SPARE
        self.count = case.different or made

    def of(self, form: WireFormat, phase: int) -> Path:
        """Return the file of the bodies of a phase in a server's form."""
        phase = 0 if self.case.different else phase
        path = self.folder / f"{form.protocol}-{form.request.__name__}-{phase}"
        if not path.exists():
            first = self.first + phase * self.count
            positions = range(first, first + self.count)
            write_bodies(path, (form.request(self.case.numbers(position)) for position in positions))
        return path

    def write(self, form: WireFormat, plan: Plan) -> None:
        """Write the files of all phases, before a server runs."""
        if self.case.kind == "load":
            for phase in range(len(self.case.connections) * (plan.repetitions + 1)):
                self.of(form, phase)


@dataclass(frozen=True)
class Start:
    """How a server is started: a peer with an engine and its model, or Tiffin with its home and a model's name.

    Tiffin serves all models when the name is empty; `small_caches` hold next to nothing.
    """

    name: str
    engine: str
    files: Path
    model: str = ""
    with_redis: bool = False
    small_caches: bool = False

    def running(self, example: Request) -> AbstractContextManager[Server]:
        """Start the server, and yield it once it has answered an example."""
        if self.name == TIFFIN:
            settings: dict[str, Any] = SMALL_CACHES if self.small_caches else {}
            return servers.tiffin(self.files, example, self.model, with_redis=self.with_redis, **settings)
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
        count = 1 if self.case.kind == "single" or self.case.rows > 1 else SAMPLES
        scores = sample(server, client, self.form, count)
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
    firsts = itertools.count(step=NUMBERS)

    def bodies_of(case: Case) -> Bodies:
        # A server that is measured more than once must not know the requests already.
        first = next(firsts)
        (folder / str(first)).mkdir()
        return Bodies(folder / str(first), case, plan, first)

    bodies = list(map(bodies_of, cases))
    for case, (own, _), made in zip(cases, models, bodies, strict=True):
        of_server = tasks.setdefault(
            Start(TIFFIN, "", own, case.model, case.with_redis, small_caches=bool(case.different)), []
        )
        of_server.append(Task(case, made, case.form, ServerResult(tiffin_by(case.form.protocol), "")))
        for form in case.other_forms:
            of_server.append(Task(case, bodies_of(case), form, ServerResult(tiffin_by(form.protocol), "")))
    for case, (_, theirs), made in zip(cases, models, bodies, strict=True):
        for peer in case.peers:
            start = Start(peer, case.engine, theirs[case.engine])
            form = WIRE_FORMATS.get(peer, case.peer_form or case.form)
            tasks.setdefault(start, []).append(Task(case, made, form, ServerResult(peer, case.engine)))
    return tasks


def sample(server: Server, client: httpx.Client, form: WireFormat, count: int) -> Scores:
    """Return the scores that a server answers to requests that are not sent again."""
    scores: Scores = []
    for number in range(SAMPLE, SAMPLE + count):
        scores += form.scores(ask(server, client, form, number))
    return scores


def ask(server: Server, client: httpx.Client, form: WireFormat, number: int) -> Any:
    """Send a request and return the JSON of its answer, or its tensors; raise RuntimeError unless it is a success."""
    request = form.request(number)
    if form.protocol == GRPC:
        with grpc.insecure_channel(server.grpc_target) as channel:
            try:
                return read_answer(channel.unary_unary(MODEL_INFER)(request.body, timeout=ANSWER_SECONDS))
            except grpc.RpcError as error:
                raise RuntimeError(f"{MODEL_INFER} answers {error.code().name}: {error.details()[:500]}") from error
    response = client.post(request.path, content=request.body, headers=headers_of(request))
    if not response.is_success:
        raise RuntimeError(f"{request.path} answers {response.status_code}: {response.text[:500]}")
    if form.protocol == PREDICT:
        return response.json()
    return read_body(response.content, json_bytes_of(response.headers))


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers of a request."""
    headers = {"Content-Type": request.content_type}
    return headers if request.json_bytes is None else {**headers, HEADER_LENGTH: str(request.json_bytes)}


def generate(server: Server, form: WireFormat, bodies: Path, connections: int, seconds: float) -> Load:
    """Load a server in a closed loop with the bodies of a file."""
    if form.protocol == GRPC:
        return grpc_load(server.grpc_target, bodies, connections, seconds)
    example = form.request(SAMPLE)
    return wrk(server.address, example.path, bodies, connections, seconds, 0, example.content_type)


def under_load(task: Task, server: Server, client: httpx.Client, plan: Plan) -> None:
    """Measure requests per second, median and p99 in seconds, CPU seconds per 1 000 requests, the generator's share."""
    if task.case.numbers is mostly_known:
        for number in range(POOL):
            ask(server, client, task.form, number)
    phases = iter(range(1_000))
    for connections in task.case.connections:
        seen: dict[str, list[float]] = {}
        with contextlib.suppress(NoAnswerError):
            file = task.bodies.of(task.form, next(phases))
            generate(server, task.form, file, connections, plan.warm_up_seconds)
        for _ in range(plan.repetitions):
            file = task.bodies.of(task.form, next(phases))
            server.settle()
            cpu = server.cpu_seconds()
            load = generate(server, task.form, file, connections, plan.seconds)
            cpu = server.cpu_seconds() - cpu
            repeats = plan.repeats or task.case.different
            if load.requests + connections > task.bodies.count and not repeats:
                raise RuntimeError(f"{load.requests} requests are more than were made: raise Case.most_per_second")
            row = {
                "per_second": load.per_second,
                "p50": load.p50,
                "p99": load.p99,
                "cpu_per_1000": 1_000 * cpu / load.requests,
                "generator_share": load.cpu_seconds / plan.seconds / (os.cpu_count() or 1),
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
        client.post(request.path, content=request.body, headers=headers_of(request)).raise_for_status()
        taken.append(time.perf_counter() - started)
    task.measured.add("seconds", taken[1:])


def memory(task: Task, server: Server, client: httpx.Client, plan: Plan) -> None:
    """Put load on each model that the server has, before its memory is measured."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for made in inputs.REQUESTS.values() if task.measured.server == TIFFIN else [task.form.request]:
            example = made(SAMPLE)
            file = write_bodies(folder / made.__name__, map(made, range(5_000)))
            wrk(server.address, example.path, file, 10, plan.seconds, content_type=example.content_type)


MEASURES = {"load": under_load, "single": one_by_one, "memory": memory}


def ratios(case: Case, found: list[ServerResult]) -> Iterator[dict[str, Any]]:
    """Yield each limit with the ratio that was found, None when a server is void."""
    by_name = {measured.server: measured for measured in found}
    for limit in case.limits:
        ours, theirs = by_name[tiffin_by(limit.protocol)], by_name[limit.peer]
        row: dict[str, Any] = {"peer": limit.peer, "figure": limit.figure, "asked": limit.limit}
        row |= {} if limit.protocol == PREDICT else {"protocol": limit.protocol}
        if ours.void or theirs.void:
            yield {**row, "found": None, "reached": False}
            continue
        ratio = ours.figures[limit.figure] / theirs.figures[limit.figure]
        yield {**row, "found": ratio, "reached": limit.reached(ratio)}
