"""The results of a run: the verdicts on its objectives, and `reports/<profile>/` with HTML, CSV and a picture."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from locust import stats
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import STATE_CLEANUP, STATE_STOPPED, STATE_STOPPING

from loadtest.profiles import Measured, Objectives, Profile, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The chart shows, for each second, what was measured in this many seconds before it.
WINDOW = 5
# Uploads ask not to be answered from a cache.
UNCACHED = "/segmentation/uploadfile"


@dataclass(frozen=True)
class Snapshot:
    """The counts at one moment: requests, failures, answers by milliseconds, and X-Cache by path and outcome."""

    seconds: float
    requests: int
    failures: int
    milliseconds: Counter[int]
    outcomes: Counter[tuple[str, str]]

    def since(self, before: Snapshot) -> Measured:
        """Return the figures of the time between an earlier snapshot and this one."""
        requests = self.requests - before.requests
        times = dict(self.milliseconds - before.milliseconds)
        p50, p99, p9999 = (
            stats.calculate_response_time_percentile(times, requests, share) / 1000 if requests else 0.0
            for share in (0.5, 0.99, 0.9999)
        )
        failures = self.failures - before.failures
        rate = requests / max(self.seconds - before.seconds, 1e-9)
        return Measured(
            requests, p50, p99, failures / max(requests, 1), hit_rate(self.outcomes - before.outcomes), rate, p9999
        )


@dataclass(frozen=True)
class Sample:
    """A second of the run: users, requests per second, percentiles of latency in milliseconds, hit rate."""

    seconds: float
    users: int
    requests: int
    rate: float
    p50: float
    p95: float
    p99: float
    hit_rate: float


def hit_rate(outcomes: Counter[tuple[str, str]]) -> float:
    """Return the share of answers that came from the cache as a whole."""
    cached = {key: count for key, count in outcomes.items() if key[0] != UNCACHED}
    return sum(count for (_, outcome), count in cached.items() if outcome == "hit") / max(sum(cached.values()), 1)


class Report:
    """Watches a run, judges it and writes its report; in a worker it only counts, for the master."""

    def __init__(self, environment: Environment, profile: Profile, objectives: Objectives, folder: Path) -> None:
        self.environment = environment
        self.profile = profile
        self.objectives = objectives
        self.folder = folder
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.clear()

    def clear(self) -> None:
        """Forget the previous run."""
        self.outcomes.clear()
        self.started = time.perf_counter()
        self.first = self.snapshot()
        self.snapshots = [self.first]
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self.missed = False

    def start(self, **_: Any) -> None:
        """Begin a run; until it is over, its objectives count as missed."""
        self.clear()
        self.environment.process_exit_code = 1
        gevent.spawn(self.watch)

    def count(self, name: str, response: Any, exception: Exception | None, **_: Any) -> None:
        """Count the X-Cache of an answer."""
        if exception is None and (outcome := (response.headers or {}).get("x-cache")):
            self.outcomes[name, outcome] += 1

    def send_counts(self, data: dict[str, Any], **_: Any) -> None:
        """Send the master what this worker has counted since it last did so."""
        data["cache"] = [[*key, count] for key, count in self.outcomes.items()]
        self.outcomes.clear()

    def add_counts(self, data: dict[str, Any], **_: Any) -> None:
        """Add what a worker has counted."""
        for name, outcome, count in data.get("cache", []):
            self.outcomes[name, outcome] += count

    def snapshot(self) -> Snapshot:
        """Return the counts so far."""
        total = self.environment.stats.total
        seconds = time.perf_counter() - self.started
        times = Counter({int(key): count for key, count in total.response_times.items()})
        return Snapshot(seconds, total.num_requests, total.num_failures, times, self.outcomes.copy())

    def watch(self) -> None:
        """Take a sample every second until users are stopped."""
        runner = self.environment.runner
        gevent.sleep(1)
        while runner is not None and runner.state not in (STATE_CLEANUP, STATE_STOPPING, STATE_STOPPED):
            now = self.snapshot()
            self.snapshots = [*self.snapshots[-WINDOW:], now]
            found = now.since(self.snapshots[0])
            total = self.environment.stats.total
            p50, p95, p99 = (total.get_current_response_time_percentile(share) or 0.0 for share in (0.5, 0.95, 0.99))
            self.samples.append(
                Sample(now.seconds, runner.user_count, now.requests, found.rate, p50, p95, p99, found.hit_rate)
            )
            gevent.sleep(1)

    def measured(self) -> Measured:
        """Return the figures of the whole run; its rate is that of the time with all users."""
        whole = self.snapshot().since(self.first)
        full = [sample for sample in self.samples if sample.users >= self.profile.peak]
        if len(full) < 2:
            return whole
        rate = (full[-1].requests - full[0].requests) / (full[-1].seconds - full[0].seconds)
        return Measured(**(asdict(whole) | {"rate": rate}))

    def stop(self, **_: Any) -> None:
        """Judge the run, which is over, and write its report."""
        found = self.measured()
        verdicts = [] if self.profile.in_steps else self.objectives.judge(found)
        if self.environment.runner is not None and self.environment.runner.exceptions:
            self.missed = True
            self.notes.append("users failed, see above")
        self.environment.process_exit_code = int(
            self.missed or found.requests == 0 or not all(verdict.met for verdict in verdicts)
        )
        self.write(found, verdicts)
        latency = f"p99 {found.p99:.3f} s, p99.99 {found.p9999:.3f} s"
        print(f"{found.requests} requests, {found.rate:.1f}/s, {latency}, hit rate {found.hit_rate:.3f}")
        print(f"see {self.folder}/")
        for line in [*verdicts, *self.notes]:
            print(line)

    def write(self, found: Measured, verdicts: list[Verdict]) -> None:
        """Write the report's files into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        html = get_html_report(self.environment, show_download_link=False)
        (self.folder / "report.html").write_text(html, encoding="utf-8")
        tables = stats.StatsCSV(self.environment, stats.PERCENTILES_TO_REPORT)
        for name, write in (("requests", tables.requests_csv), ("failures", tables.failures_csv)):
            with (self.folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                write(csv.writer(file))
        with (self.folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(field.name for field in fields(Sample))
            writer.writerows(asdict(sample).values() for sample in self.samples)
        summary = {
            "measured": asdict(found),
            "objectives": [asdict(verdict) for verdict in verdicts],
            "cache": {path: dict(self.outcomes_of(path)) for path in sorted({path for path, _ in self.outcomes})},
            "notes": self.notes,
        }
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        self.picture().savefig(self.folder / "chart.png", dpi=100)

    def outcomes_of(self, path: str) -> dict[str, int]:
        """Return how many answers of a route were a hit, partial or a miss."""
        return {outcome: count for (name, outcome), count in self.outcomes.items() if name == path}

    def picture(self) -> Figure:
        """Draw throughput and users, percentiles, and hit rate over time."""
        from matplotlib.figure import Figure  # takes a third of a second, and workers draw nothing

        figure = Figure(figsize=(9, 9), layout="constrained")
        rate, latency, cache = figure.subplots(3, sharex=True)
        seconds = [sample.seconds for sample in self.samples]
        rate.plot(seconds, [sample.rate for sample in self.samples], label="requests/s")
        users = rate.twinx()
        users.plot(seconds, [sample.users for sample in self.samples], color="grey", linestyle=":")
        for name in ("p50", "p95", "p99"):
            latency.plot(seconds, [getattr(sample, name) for sample in self.samples], label=name)
        cache.plot(seconds, [sample.hit_rate for sample in self.samples])
        rate.set_ylabel("requests/s")
        users.set_ylabel("users (dotted)")
        latency.set_ylabel("ms")
        latency.legend()
        cache.set_ylabel("hit rate")
        cache.set_xlabel("seconds")
        for axes, top in ((rate, None), (users, None), (latency, None), (cache, 1.05)):
            axes.set_ylim(0, top)
        return figure
