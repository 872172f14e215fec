"""Small work, computed in the event loop: handing it to a thread and its output back would take longer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from models.model import Model, has_plain_rows
from serving.inference.errors import UnknownModelError
from serving.inference.job import Job, total_size
from serving.inference.pace import Pace
from serving.inference.padding import batches, stack
from serving.inference.preprocessing import preprocess
from serving.inference.runner import Runner

# What takes more is handed to a thread: to hand over a job, wake the thread and take its output takes 100 to 400 us of
# CPU time, by the processor and by what else runs. A batch of several takes the place of as many of these.
MOST_SECONDS = 0.0005
# What takes somewhat more is computed at once now and then, since it may have become faster, as where others no longer
# take the processor's caches: one in so many, where it takes no more than so many seconds.
TRIED_ONE_IN, TRIED_SECONDS = 256, 0.001
RUNS = 10
# A model whose first batches took longer is not measured, since it would delay the start.
LONGEST_SECONDS = 0.1
# What takes this much longer than its CPU time waits for something else, as for a database or an accelerator.
IDLE_SECONDS = 0.002
# A turn of the event loop in which only our own callback ran takes less. It takes some such turns before nothing is on
# its way: threads that read from sockets, as those of gRPC, hand over what they have while the loop is quiet.
QUIET_SECONDS, QUIET_TURNS = 0.00003, 4
# A batch counts as no more than so many times what it was to take: one that other programs hold up says nothing of the
# next, and it would take thousands to forget it.
MOST_TIMES = 4


class AtOnce:
    """Computes rows in the event loop, in a batch with those that come before the loop has nothing else to do.

    They wait for no longer than `linger_seconds`. What has become too much meanwhile is handed to a thread.

    The CPU time of earlier batches says how long that takes. Time by a clock would say that nothing is quick where
    other programs run, too, and counts only where it is far longer. Items of other kinds than rows may differ much in
    what they take, as texts do.

    `hand_over(jobs)` queues jobs for a thread; `cpu_clock` returns the CPU time of the thread in seconds.
    """

    def __init__(
        self,
        model: Model[Any],
        max_batch: int,
        runner: Runner,
        hand_over: Callable[[list[Job]], None],
        cpu_clock: Callable[[], float],
        linger_seconds: float,
    ) -> None:
        self.model = model
        self.max_batch = max_batch
        self.runner = runner
        self.delivery = runner.delivery
        self.hand_over = hand_over
        self.cpu_clock = cpu_clock
        self.linger_seconds = linger_seconds
        self.cost = Pace(max_batch)
        self.tries = 0
        self.alike = model.vectorized or has_plain_rows(type(model))
        self.gathered: list[Job] = []
        self.begun = self.looked = 0.0  # when gathering began, and when `look` was last called
        self.quiet_turns = 0

    def measure(self, items: Collection[Any]) -> None:
        """Measure what batches of a model's example take, where items are alike and the graph is not slow."""
        if not self.alike or self.runner.pace.seconds(len(items)) > LONGEST_SECONDS:
            return
        prepared = [self.model.preprocess(item) for item in items]
        while len(prepared) <= self.max_batch:
            took: list[float] = []
            while len(took) < RUNS and sum(took) < RUNS * TRIED_SECONDS:
                started = self.runner.clock()
                self.runner.single.run(None, stack(prepared))
                took.append(self.runner.clock() - started)
            self.cost.record(len(prepared), min(took))
            if min(took) > MOST_SECONDS:
                break
            prepared += prepared

    def takes(self, size: int) -> bool:
        """Return whether so many items are to be computed at once."""
        if not self.alike or size > self.max_batch:
            return False
        seconds = self.cost.most_seconds(size)
        if MOST_SECONDS < seconds <= TRIED_SECONDS:
            self.tries += 1
            return self.tries % TRIED_ONE_IN == 0
        return seconds <= MOST_SECONDS

    def gather(self, jobs: list[Job]) -> None:
        """Compute jobs in a later turn of the event loop, with others that have come by then."""
        if not self.gathered and self.delivery.loop is not None:
            self.begun = self.looked = self.runner.clock()
            self.quiet_turns = 0
            self.delivery.loop.call_soon(self.look)
        self.gathered += jobs

    def look(self) -> None:
        """Compute what was gathered once the event loop is quiet, or it is time."""
        now = self.runner.clock()
        self.quiet_turns = self.quiet_turns + 1 if now - self.looked <= QUIET_SECONDS else 0
        self.looked = now
        is_time = self.quiet_turns >= QUIET_TURNS or now - self.begun >= self.linger_seconds
        loop = self.delivery.loop
        if loop is None or is_time:
            self.compute()
        else:
            loop.call_soon(self.look)

    def compute(self) -> None:
        """Compute what was gathered, or hand it over where it has become too much."""
        jobs, self.gathered = self.gathered, []
        size = total_size(jobs)
        started, cpu_started = self.runner.clock(), self.cpu_clock()
        try:
            if len(jobs) > 1 and not self.takes(size):
                self.hand_over(jobs)
                return
            failed = preprocess(self.model, jobs, self.delivery.is_awaited)
            for batch in batches(self.delivery.without_failed(jobs, failed), size):
                self.runner.infer(batch)
        except UnknownModelError as error:
            self.delivery.fail(jobs, error)
        except BaseException as error:
            self.delivery.fail_all(jobs, error)
        cpu_seconds, seconds = self.cpu_clock() - cpu_started, self.runner.clock() - started
        most = MOST_TIMES * self.cost.most_seconds(size)
        self.cost.record(size, min(max(cpu_seconds, seconds - IDLE_SECONDS), most))
