"""Simulate the shipped autoscaler: how many pods it runs, and how many requests find none, as the load changes.

python -m benchmarks.autoscaling [--start-seconds 10] [--capacity 774] [--cpu-seconds 2337] [--targets 0.9,0.8,...]

No cluster is needed: pods are as fast as docs/sizing.md says, and Kubernetes' algorithm (benchmarks/autoscaler.py) adds
and removes them. The loads are those of the systems that Tiffin replaces, and one that grows tenfold from one second to
the next. Prints the tables of docs/sizing.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import yaml

from benchmarks.autoscaler import Autoscaler, Controller, wanted_replicas
from loadtest.processes import ROOT
from loadtest.profiles import PROFILES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST = ROOT / "k8s" / "components" / "autoscaling" / "horizontal-pod-autoscaler.yaml"
DEPLOYMENT = ROOT / "k8s" / "base" / "deployment.yaml"
TARGETS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
# Texts in a second before the spike: several, since one may just suit a target.
SPIKE_RATES = range(300, 701, 50)
SPIKE_START, SPIKE_END = 600, 1_200
# On one core a server was ready 3.2 s after its start (docs/deploy.md); the rest is for scheduling the pod, starting
# its containers and the gateway that learns of it, with the image on the node.
START_SECONDS = 10.0
# New texts on two cores: requests/s of a pod, and CPU seconds of a million of them (docs/sizing.md).
CAPACITY = 774.0
CPU_SECONDS = 2_337.0
# TIFFIN_QUEUE_SECONDS: what would wait longer is refused.
QUEUE_SECONDS = 2.0
# How often metrics-server asks the nodes (--metric-resolution), in turn with the autoscaler.
SCRAPE_SECONDS = 15
SCRAPE_OFFSET = 7


@dataclass(frozen=True)
class PodModel:
    """What a pod can do: requests/s at most, CPU seconds of a request, cores that it requests, seconds to be ready."""

    capacity: float
    cpu_seconds: float
    cores: float
    start_seconds: float = START_SECONDS


@dataclass(frozen=True)
class Scenario:
    """A load in requests/s over so many seconds, on pods of a model."""

    name: str
    seconds: int
    rate: Callable[[float], float]
    pod: PodModel


@dataclass
class Pod:
    """A pod since `created`, ready from `ready` on; its last metric is that of the time before `scraped`."""

    created: float
    ready: float
    used: float = 0.0
    utilization: float = 0.0
    scraped: float | None = None


@dataclass
class Run:
    """What happened in each second: requests/s that came and that were served, pods, and pods that were ready."""

    offered: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    refused: float = 0.0

    @property
    def refused_share(self) -> float:
        """The share of requests that were refused."""
        return self.refused / max(sum(self.offered), 1e-9)

    @property
    def mean_pods(self) -> float:
        """The mean number of pods, for which somebody pays."""
        return mean(self.pods)


def requested_cores() -> float:
    """Return the cores that the base's server requests."""
    spec = yaml.safe_load(DEPLOYMENT.read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    return float(spec["containers"][0]["resources"]["requests"]["cpu"])


def shipped() -> Autoscaler:
    """Return the autoscaler of k8s/components."""
    return Autoscaler.of(yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["spec"])


def of_profile(name: str, per_user: float, pod: PodModel) -> Scenario:
    """Return the load of a profile of loadtest/, whose users send so many requests/s each, and five minutes more."""
    profile = PROFILES[name]
    return Scenario(name, int(profile.seconds) + 300, lambda now: per_user * (profile.users_at(now) or 0), pod)


def spike(rate: float, pod: PodModel) -> Scenario:
    """Return a load that is ten times as high for ten minutes."""
    return Scenario("tenfold spike", 2_400, lambda now: rate * (10 if SPIKE_START <= now < SPIKE_END else 1), pod)


def scenarios(start_seconds: float, capacity: float = CAPACITY, cpu_seconds: float = CPU_SECONDS) -> list[Scenario]:
    """Return all loads, on the pods of two cores that docs/sizing.md measured; the last is the spike.

    For pictures and rows, whose hit rate there is 0 and 1, the means for 95 % of known inputs are computed from both.
    `capacity` in requests/s and `cpu_seconds` of a million requests are those of the spike's pods.
    """

    def known(new: tuple[float, float], old: tuple[float, float]) -> PodModel:
        capacity = 1 / (0.05 / new[0] + 0.95 / old[0])
        return PodModel(capacity, (0.05 * new[1] + 0.95 * old[1]) / 1e6, requested_cores(), start_seconds)

    texts = PodModel(5_453, 264e-6, requested_cores(), start_seconds)
    new_texts = PodModel(capacity, cpu_seconds / 1e6, requested_cores(), start_seconds)
    return [
        # Users without pauses send as many as are answered: 3 536 requests/s of ten (docs/load-tests.md).
        of_profile("sentiment", 353.6, texts),
        of_profile("image", 0.8, known((224, 6_466), (11_104, 90))),
        of_profile("segmentation", 10_000 / 60 / 101, known((3_006, 345), (9_826, 101))),
        spike(500, new_texts),
    ]


def simulate(scenario: Scenario, autoscaler: Autoscaler) -> Run:
    """Run a load second by second, with the autoscaler's fewest pods ready at the start."""
    model, controller, run = scenario.pod, Controller(autoscaler), Run()
    pods = [Pod(-1_000.0, -1_000.0) for _ in range(autoscaler.min_replicas)]
    waiting = 0.0
    for now in range(scenario.seconds):
        ready = [pod for pod in pods if pod.ready <= now]
        offered, capacity = scenario.rate(now), len(ready) * model.capacity
        served = min(offered + waiting, capacity)
        waiting += offered - served
        run.refused += max(0.0, waiting - capacity * QUEUE_SECONDS)
        waiting = min(waiting, capacity * QUEUE_SECONDS)
        for pod in ready:
            pod.used += served / len(ready) * model.cpu_seconds
        run.offered.append(offered)
        run.served.append(served)
        run.pods.append(len(pods))
        run.ready.append(len(ready))
        if now % SCRAPE_SECONDS == SCRAPE_OFFSET:
            scrape(pods, now, model.cores)
        if now % autoscaler.sync_seconds == 0:
            wanted = wanted_by(pods, autoscaler)
            count = controller.replicas(now, len(pods), wanted)
            pods = pods[:count] + [Pod(now, now + model.start_seconds) for _ in range(count - len(pods))]
    return run


def scrape(pods: list[Pod], now: float, cores: float) -> None:
    """Give every pod that has run for the whole time since the last metrics its new ones."""
    for pod in pods:
        if pod.created <= now - SCRAPE_SECONDS:
            pod.utilization, pod.scraped = pod.used / SCRAPE_SECONDS / cores, now
        pod.used = 0.0


def wanted_by(pods: list[Pod], autoscaler: Autoscaler) -> int:
    """Return how many pods their metrics ask for.

    Within the five minutes after its start (--horizontal-pod-autoscaler-cpu-initialization-period) a pod counts as not
    ready until it has a metric of a time in which it was: section "Algorithm details".
    """
    counted = [pod for pod in pods if pod.scraped is not None and pod.scraped >= pod.ready + SCRAPE_SECONDS]
    return wanted_replicas(
        len(pods),
        [pod.utilization for pod in counted],
        autoscaler.target,
        autoscaler.tolerance,
        unready=len(pods) - len(counted),
    )


def seconds_short(run: Run) -> int:
    """Return in how many seconds less was served than came."""
    return sum(served < offered - 1e-6 for offered, served in zip(run.offered, run.served, strict=True))


def load_rows(found: list[tuple[Scenario, Run]]) -> Iterator[str]:
    """Yield the table of the loads."""
    yield "| load | requests/s at most | a pod serves | pods, at most | pods, mean | refused | seconds short |"
    yield "|---|---|---|---|---|---|---|"
    for scenario, run in found:
        row = [scenario.name, f"{max(run.offered):,.0f}", f"{scenario.pod.capacity:,.0f}", max(run.pods)]
        row += [f"{run.mean_pods:.1f}", f"{run.refused_share:.1%}", seconds_short(run)]
        yield f"| {' | '.join(map(str, row))} |"


@dataclass(frozen=True)
class TargetResult:
    """What a target of the autoscaler costs and saves: means over spikes of several heights."""

    target: float
    pods_before: float
    refused_share: float
    seconds_short: float


def try_targets(pod: PodModel, autoscaler: Autoscaler, targets: Sequence[float]) -> list[TargetResult]:
    """Return what each target does under spikes."""
    found = []
    for target in targets:
        runs = [simulate(spike(rate, pod), replace(autoscaler, target=target)) for rate in SPIKE_RATES]
        columns = ((mean(run.pods[:SPIKE_START]), run.refused_share, seconds_short(run)) for run in runs)
        found.append(TargetResult(target, *map(mean, zip(*columns, strict=True))))
    return found


def best_target(results: Sequence[TargetResult]) -> float:
    """Return the target from which on lower ones are not worth it; `results` go from the highest target down.

    A lower one is worth it while it saves at least 1.5 times the share of the refusals that it adds of the pods before.
    """
    best = results[0]
    for lower in results[1:]:
        saved = 1 - lower.refused_share / best.refused_share
        added = lower.pods_before / best.pods_before - 1
        if saved < 1.5 * added:
            break
        best = lower
    return best.target


def target_rows(results: Sequence[TargetResult]) -> Iterator[str]:
    """Yield the table of the autoscaler's targets."""
    yield "| target | pods before the spike | refused | seconds short |"
    yield "|---|---|---|---|"
    for found in results:
        row = [f"{found.target:.0%}", f"{found.pods_before:.1f}", f"{found.refused_share:.1%}"]
        yield f"| {' | '.join(row)} | {found.seconds_short:.0f} |"


def draw(found: list[tuple[Scenario, Run]]) -> Figure:
    """Draw each load with what was served of it, and the pods below; the start of the last one larger, too."""
    from matplotlib.figure import Figure  # takes a third of a second, and only the command with a picture needs it

    figure = Figure(figsize=(14, 6), layout="constrained")
    panels = figure.subplots(2, len(found) + 1, sharex="col", squeeze=False)
    for column, (scenario, run) in enumerate([*found, found[-1]]):
        rates, pods = panels[0][column], panels[1][column]
        minutes = [second / 60 for second in range(len(run.offered))]
        rates.set_title(scenario.name)
        if column == len(found):
            rates.set_title(f"{scenario.name}, its start")
            rates.set_xlim(SPIKE_START / 60 - 0.5, SPIKE_START / 60 + 2)
        rates.plot(minutes, run.offered, color="grey", linewidth=1, label="requests/s")
        rates.plot(minutes, run.served, color="tab:green", label="answered")
        answered = [min(served, offered) for served, offered in zip(run.served, run.offered, strict=True)]
        rates.fill_between(minutes, answered, run.offered, color="tab:red", alpha=0.4, label="refused, or waiting")
        pods.step(minutes, run.pods, color="grey", linewidth=1, where="post", label="pods")
        pods.step(minutes, run.ready, color="tab:blue", where="post", label="ready")
        pods.set_xlabel("minutes")
        for axes in (rates, pods):
            axes.set_ylim(bottom=0)
    panels[0][-1].legend(loc="lower right")
    panels[1][-1].legend()
    figure.suptitle("simulated, not measured")
    return figure


def main(arguments: list[str]) -> None:
    """Print both tables and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--start-seconds", type=float, default=START_SECONDS, help="until a new pod is ready")
    parser.add_argument("--capacity", type=float, default=CAPACITY, help="requests/s that a pod serves in the spike")
    parser.add_argument("--cpu-seconds", type=float, default=CPU_SECONDS, help="of a million requests of the spike")
    parser.add_argument("--targets", default=",".join(map(str, TARGETS)), help="of CPU, as shares of the request")
    parser.add_argument("--picture", type=Path, default=ROOT / "reports" / "autoscaling.png")
    given = parser.parse_args(arguments)
    loads = scenarios(given.start_seconds, given.capacity, given.cpu_seconds)
    found = [(scenario, simulate(scenario, shipped())) for scenario in loads]
    print(*load_rows(found), "", sep="\n")
    results = try_targets(loads[-1].pod, shipped(), sorted(map(float, given.targets.split(",")), reverse=True))
    print(*target_rows(results), "", f"worth it: {best_target(results):.0%}", sep="\n")
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    draw(found).savefig(given.picture, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1:])
