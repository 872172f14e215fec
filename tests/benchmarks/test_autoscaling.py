"""Kubernetes' algorithm by the worked examples of its documentation, and the simulation of the shipped autoscaler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.autoscaler import SCALE_DOWN, SCALE_UP, Autoscaler, Controller, Policy, Rules, wanted_replicas
from benchmarks.autoscaling import (
    TARGETS,
    PodModel,
    Scenario,
    best_target,
    main,
    scenarios,
    seconds_short,
    shipped,
    simulate,
    try_targets,
)
from tests.support import ROOT

ONE_POD = Autoscaler(1, 100, 0.5)


@pytest.mark.parametrize(
    ("current", "utilization", "target", "wanted"),
    [
        # "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled"
        (3, 2.0, 1.0, 6),
        # "If the current value is instead 50m, you'll halve the number of replicas"
        (6, 0.5, 1.0, 3),
        # "within a globally-configurable tolerance, 0.1 by default"
        (10, 1.1, 1.0, 10),
        (10, 0.9, 1.0, 10),
        (10, 1.12, 1.0, 12),
        # The post on Kubernetes 1.33's tolerance: 50 replicas at 90 % of CPU, of which 75 % are wanted.
        (50, 0.90, 0.75, 60),
        # The walkthrough: one replica at 305 % of 50 %.
        (1, 3.05, 0.5, 7),
    ],
)
def test_the_ratio_of_metric_and_target_scales_the_pods(
    current: int, utilization: float, target: float, wanted: int
) -> None:
    assert wanted_replicas(current, [utilization] * current, target) == wanted


def test_the_tolerance_may_be_another() -> None:
    # The same post: without a tolerance every difference counts.
    assert wanted_replicas(50, [0.76] * 50, 0.75, tolerance=0) == 51
    assert wanted_replicas(50, [0.76] * 50, 0.75) == 50


@pytest.mark.parametrize(
    ("utilizations", "others", "wanted"),
    [
        # "assumes that the not-yet-ready pods are consuming 0% of the desired metric, further dampening a scale up"
        ([2.0] * 2, {"unready": 1}, 4),
        # "If the new ratio reverses the scale direction, or is within the tolerance, the controller doesn't take any
        # scaling action."
        ([1.4] * 2, {"unready": 1}, 3),
        ([2.0] * 2, {"unready": 2}, 4),
        # In a scale down they do not count.
        ([0.5] * 4, {"unready": 4}, 2),
        # "assuming those pods were consuming 100% of the desired value in case of a scale down, and 0% in case of a
        # scale up"
        ([0.5] * 4, {"missing": 2}, 4),
        ([2.0] * 4, {"missing": 2}, 8),
        ([1.0] * 2, {"missing": 2}, 4),
        ([], {"missing": 3}, 3),
    ],
)
def test_pods_without_a_metric_make_a_change_smaller(
    utilizations: list[float], others: dict[str, int], wanted: int
) -> None:
    current = len(utilizations) + sum(others.values())
    assert wanted_replicas(current, utilizations, 1.0, **others) == wanted


def steps(rules: Rules, current: int, wanted: int, count: int, seconds: float = 60) -> list[int]:
    """Return the numbers of pods of some steps that all want the same."""
    up = rules if wanted > current else SCALE_UP
    down = rules if wanted < current else SCALE_DOWN
    controller = Controller(replace(ONE_POD, scale_up=up, scale_down=down))
    found = []
    for step in range(count):
        current = controller.replicas(step * seconds, current, wanted)
        found.append(current)
    return found


TEN_PER_CENT, FOUR_PODS, FIVE_PODS = Policy("Percent", 10, 60), Policy("Pods", 4, 60), Policy("Pods", 5, 60)


def test_of_several_policies_the_largest_change_is_taken() -> None:
    # "if there are 80 replicas and the target has to be scaled down to 10 replicas then during the first step 8
    # replicas will be reduced. In the next iteration when the number of replicas is 72, 10% of the pods is 7.2 but the
    # number is rounded up to 8." Below 40, four at a time.
    found = steps(Rules((FOUR_PODS, TEN_PER_CENT), 0), 80, 10, 15)
    assert found[:4] == [72, 64, 57, 51]
    assert found[6:] == [36, 32, 28, 24, 20, 16, 12, 10, 10]


def test_of_several_policies_the_smallest_may_be_taken() -> None:
    # "To ensure that no more than 5 Pods are removed per minute"
    assert steps(Rules((TEN_PER_CENT, FIVE_PODS), 0, "Min"), 80, 10, 3) == [75, 70, 65]


def test_a_direction_may_be_disabled() -> None:
    assert steps(replace(SCALE_DOWN, select="Disabled"), 80, 10, 2) == [80, 80]


def test_by_default_pods_are_doubled_or_four_are_added_every_15_seconds() -> None:
    # "4 pods or a 100% of the currently running replicas will be added every 15 seconds till the HPA reaches its steady
    # state", whichever is more.
    assert steps(SCALE_UP, 1, 100, 6, 15) == [5, 10, 20, 40, 80, 100]


def test_a_policy_holds_over_its_whole_period() -> None:
    assert steps(Rules((FOUR_PODS,), 0), 80, 10, 5, 15) == [76, 76, 76, 76, 72]


def test_pods_are_removed_to_the_highest_recommendation_of_the_last_five_minutes() -> None:
    controller = Controller(ONE_POD)
    found = [controller.replicas(now, 10, wanted) for now, wanted in ((0, 10), (60, 8), (240, 3), (299, 3), (301, 3))]
    assert found == [10, 10, 10, 10, 8]


def test_a_window_of_scale_up_waits_for_the_lowest_recommendation() -> None:
    controller = Controller(replace(ONE_POD, scale_up=replace(SCALE_UP, stabilization_seconds=60)))
    assert [controller.replicas(now, 2, wanted) for now, wanted in ((0, 2), (30, 6), (59, 6), (61, 5))] == [2, 2, 2, 5]


def test_bounds_hold_whatever_is_wanted() -> None:
    controller = Controller(Autoscaler(2, 4, 0.5, scale_down=replace(SCALE_DOWN, stabilization_seconds=0)))
    assert [controller.replicas(now, 3, wanted) for now, wanted in ((0, 9), (60, 0))] == [4, 2]


def test_a_manifest_is_read_with_the_defaults_of_kubernetes() -> None:
    spec = """
    maxReplicas: 7
    metrics: [{containerResource: {target: {averageUtilization: 65}}}]
    behavior: {scaleDown: {policies: [{type: Pods, value: 2, periodSeconds: 30}], selectPolicy: Min}}
    """
    found = Autoscaler.of(yaml.safe_load(spec))
    assert found == Autoscaler(1, 7, 0.65, SCALE_UP, Rules((Policy("Pods", 2, 30),), 300, "Min"))


POD = PodModel(capacity=100, cpu_seconds=0.01, cores=1, start_seconds=10)


def test_under_a_steady_load_the_pods_run_at_their_target() -> None:
    run = simulate(Scenario("steady", 1_200, lambda _: 450.0, POD), Autoscaler(1, 20, 0.5))
    # 450 requests/s take 4.5 cores; half of a core for each pod, and within a tenth of it nothing changes.
    assert 4.5 / 0.55 <= run.pods[-1] <= 4.5 / 0.45 + 1
    assert run.served[-1] == 450


def test_what_finds_no_pod_waits_two_seconds_and_is_refused_then() -> None:
    run = simulate(Scenario("full", 10, lambda _: 150.0, POD), Autoscaler(1, 1, 0.5))
    # One pod serves 100 in a second; of 50 more the queue takes those of four seconds.
    assert run.refused == 50 * 10 - 200
    assert seconds_short(run) == 10


def test_a_pod_that_takes_longer_to_start_serves_later() -> None:
    def short(start_seconds: float) -> int:
        scenario = Scenario(
            "step", 600, lambda now: 300.0 if now > 60 else 30.0, replace(POD, start_seconds=start_seconds)
        )
        return seconds_short(simulate(scenario, Autoscaler(1, 20, 0.5)))

    assert short(40) >= short(10) + 30


def test_the_shipped_target_is_the_lowest_that_is_worth_its_pods() -> None:
    assert best_target(try_targets(scenarios(10)[-1].pod, shipped(), TARGETS)) == shipped().target


def test_the_loads_of_the_original_systems_are_served_whole() -> None:
    for scenario in scenarios(10)[:-1]:
        assert simulate(scenario, shipped()).refused == 0, scenario.name


def test_the_page_shows_the_tables_as_they_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--picture", str(tmp_path / "autoscaling.png")])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8").replace(" (shipped)", "")
    assert len(rows) == 4 + 2 + len(TARGETS) + 2
    assert [row for row in rows if row not in page] == []
    assert (tmp_path / "autoscaling.png").read_bytes().startswith(b"\x89PNG")
