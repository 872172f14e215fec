"""One case: each of its servers alone on the machine, under the same load."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadtest import inputs
from loadtest.compare import servers
from loadtest.compare.artefacts import Artefacts
from loadtest.compare.cases import Case
from loadtest.compare.loads import FORMS, POOL, SAMPLE, Answer, Form, differences, mostly_known
from loadtest.compare.servers import Server, wait_until_idle
from loadtest.processes import NoAnswerError, write_bodies, wrk

SAMPLES = 20
# Bodies that wrk may ask for beyond those that it sends: it formats one to check the script, and one per connection.
SPARE = 200
TIFFIN = "tiffin"


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure; how long to wait for an idle machine."""

    repetitions: int
    seconds: int
    warm_up_seconds: int
    idle_seconds: float


@dataclass
class Measured:
    """What was found of a server: medians by figure and connections, and what each repetition gave.

    `void` says why there are no figures; `busy` is the part of the cores that others used before.
    """

    server: str
    engine: str
    figures: dict[str, float] = field(default_factory=dict)
    repetitions: dict[str, list[float]] = field(default_factory=dict)
    busy: float = 0.0
    void: str = ""

    def add(self, figure: str, values: list[float]) -> None:
        """Keep repetitions and their median."""
        self.repetitions[figure] = values
        self.figures[figure] = statistics.median(values)


class Bodies:
    """Files of bodies for wrk, each written once: phase k of each server gets the same numbers."""

    def __init__(self, folder: Path, case: Case, plan: Plan) -> None:
        self.folder = folder
        self.case = case
        self.count = case.most_per_second * max(plan.seconds, plan.warm_up_seconds) + SPARE

    def of(self, form: Form, phase: int) -> Path:
        """The bodies of a phase in a server's form."""
        path = self.folder / f"{form.request.__name__}-{phase}"
        if not path.exists():
            positions = range(phase * self.count, (phase + 1) * self.count)
            write_bodies(path, (form.request(self.case.numbers(position)).body for position in positions))
        return path


def compare(case: Case, plan: Plan, home: Path, artefacts: Artefacts) -> list[Measured]:
    """Tiffin's figures and those of each peer."""
    own, models = case.models(home, artefacts)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bodies = Bodies(Path(folder), case, plan)
        expected: Answer = []
        for name in (TIFFIN, *case.peers):
            form = case.form if name == TIFFIN else FORMS.get(name, case.form)
            measured = Measured(name, case.engine if name != TIFFIN else "")
            found.append(measured)
            if case.kind == "load":
                for phase in range(len(case.connections) * (plan.repetitions + 1)):
                    bodies.of(form, phase)
            measured.busy = wait_until_idle(plan.idle_seconds)
            example = form.request(SAMPLE)
            running: AbstractContextManager[Server]
            if name == TIFFIN:
                running = servers.tiffin(own, example, case.model, with_redis=case.with_redis)
            else:
                running = servers.peer(name, case.engine, models[case.engine], example)
            try:
                with running as server, httpx.Client(base_url=server.address, timeout=60) as client:
                    measured.figures["cold_start_seconds"] = server.cold_start_seconds
                    answers = sample(client, form, 1 if case.kind == "single" else SAMPLES)
                    expected = expected or answers
                    for difference in differences(expected, answers, case.tolerance):
                        raise RuntimeError(f"{name} answers otherwise than Tiffin: {difference}")
                    MEASURES[case.kind](server, client, case, form, bodies, plan, measured)
                    measured.figures["memory_bytes"] = server.memory_bytes()
                    measured.figures["redis_bytes"] = server.redis_bytes()
            except RuntimeError as error:
                measured.void = str(error)
                print(f"{name} is void: {error}", file=sys.stderr, flush=True)
    return found


def sample(client: httpx.Client, form: Form, count: int) -> Answer:
    """Answers to requests that are not sent again."""
    answers: Answer = []
    for number in range(SAMPLE, SAMPLE + count):
        answers += form.scores(ask(client, form, number))
    return answers


def ask(client: httpx.Client, form: Form, number: int) -> Any:
    """The answer to a request; RuntimeError unless it is one of success."""
    request = form.request(number)
    answer = client.post(request.path, content=request.body, headers={"Content-Type": request.content_type})
    if not answer.is_success:
        raise RuntimeError(f"{request.path} answers {answer.status_code}: {answer.text[:500]}")
    return answer.json()


def under_load(
    server: Server, client: httpx.Client, case: Case, form: Form, bodies: Bodies, plan: Plan, measured: Measured
) -> None:
    """Requests per second, median and 99th percentile of seconds, CPU seconds per 1 000 requests; wrk's share."""
    if case.numbers is mostly_known:
        for number in range(POOL):
            ask(client, form, number)
    example = form.request(SAMPLE)
    phases = iter(range(1_000))
    for connections in case.connections:
        seen: dict[str, list[float]] = {}
        with contextlib.suppress(NoAnswerError):
            file = bodies.of(form, next(phases))
            wrk(server.address, example.path, file, connections, plan.warm_up_seconds, 0, example.content_type)
        for _ in range(plan.repetitions):
            file = bodies.of(form, next(phases))
            server.settle()
            cpu = server.cpu_seconds()
            load = wrk(server.address, example.path, file, connections, plan.seconds, 0, example.content_type)
            cpu = server.cpu_seconds() - cpu
            if load.requests + connections > bodies.count:
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
            measured.add(f"{figure}_{connections}", values)


def one_by_one(
    server: Server, client: httpx.Client, case: Case, form: Form, bodies: Bodies, plan: Plan, measured: Measured
) -> None:
    """Seconds of single requests."""
    taken = []
    for number in range(plan.repetitions + 1):
        request = form.request(number)
        started = time.perf_counter()
        client.post(
            request.path, content=request.body, headers={"Content-Type": request.content_type}
        ).raise_for_status()
        taken.append(time.perf_counter() - started)
    measured.add("seconds", taken[1:])


def memory(
    server: Server, client: httpx.Client, case: Case, form: Form, bodies: Bodies, plan: Plan, measured: Measured
) -> None:
    """Load on each model that the server has, after which its memory is taken."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for made in inputs.REQUESTS.values() if measured.server == TIFFIN else [form.request]:
            example = made(SAMPLE)
            file = write_bodies(folder / made.__name__, (made(number).body for number in range(5_000)))
            wrk(server.address, example.path, file, 10, plan.seconds, content_type=example.content_type)


MEASURES = {"load": under_load, "single": one_by_one, "memory": memory}


def ratios(case: Case, found: list[Measured]) -> Iterator[dict[str, Any]]:
    """What is asked, and the ratio that was found; none when a server is void."""
    by_name = {measured.server: measured for measured in found}
    for limit in case.asks:
        ours, theirs = by_name[TIFFIN], by_name[limit.peer]
        row: dict[str, Any] = {"peer": limit.peer, "figure": limit.figure, "asked": limit.limit}
        if ours.void or theirs.void:
            yield {**row, "found": None, "reached": False}
            continue
        ratio = ours.figures[limit.figure] / theirs.figures[limit.figure]
        yield {**row, "found": ratio, "reached": limit.reached(ratio)}
