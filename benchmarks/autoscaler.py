"""Kubernetes' algorithm for scaling a Deployment: how many pods it wants, and how fast it may change their number.

The algorithm is that of https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/, whose
sections the docstrings name; the order of its steps is that of the HorizontalPodAutoscaler's controller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Policy:
    """A bound on a change: so many pods ("Pods") or so many per cent of the pods ("Percent") in a period."""

    kind: str
    value: int
    period_seconds: float


@dataclass(frozen=True)
class Rules:
    """How fast the number of pods may change in one direction.

    `select` takes of several policies the one that allows the largest change ("Max"), the smallest ("Min"), or none
    ("Disabled").
    """

    policies: tuple[Policy, ...]
    stabilization_seconds: float
    select: str = "Max"


# Section "Default Behavior".
SCALE_UP = Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0)
SCALE_DOWN = Rules((Policy("Percent", 100, 15),), 300)


@dataclass(frozen=True)
class Autoscaler:
    """A HorizontalPodAutoscaler by the utilization of CPU, a share of what pods request."""

    min_replicas: int
    max_replicas: int
    target: float
    scale_up: Rules = SCALE_UP
    scale_down: Rules = SCALE_DOWN
    # --horizontal-pod-autoscaler-tolerance and --horizontal-pod-autoscaler-sync-period, of the controller manager.
    tolerance: float = 0.1
    sync_seconds: float = 15.0

    @classmethod
    def of(cls, spec: dict[str, Any]) -> Autoscaler:
        """Return what the `spec` of a manifest says; what it does not say is Kubernetes' default."""
        (metric,) = spec["metrics"]
        target = metric["containerResource"]["target"]["averageUtilization"] / 100
        behavior = spec.get("behavior", {})
        up, down = (
            rules_of(behavior.get(name, {}), usual)
            for name, usual in (("scaleUp", SCALE_UP), ("scaleDown", SCALE_DOWN))
        )
        return cls(spec.get("minReplicas", 1), spec["maxReplicas"], target, up, down)


def rules_of(spec: dict[str, Any], usual: Rules) -> Rules:
    """Return the rules of one direction, completed by the usual ones."""
    policies = tuple(
        Policy(found["type"], found["value"], found["periodSeconds"]) for found in spec.get("policies", [])
    )
    return replace(
        usual,
        policies=policies or usual.policies,
        stabilization_seconds=spec.get("stabilizationWindowSeconds", usual.stabilization_seconds),
        select=spec.get("selectPolicy", usual.select),
    )


def wanted_replicas(
    current: int,
    utilizations: Sequence[float],
    target: float,
    tolerance: float = 0.1,
    unready: int = 0,
    missing: int = 0,
) -> int:
    """Return how many pods the metrics ask for: section "Algorithm details".

    `utilizations` are those of ready pods, as shares of their requests. Besides them there are `unready` pods, which
    have not been ready since their last metric, and pods whose metrics are `missing`. These make a change smaller, and
    never turn it round: unready ones count as idle when pods are to be added, missing ones as idle then, and as just on
    target when pods are to be removed.
    """
    if not utilizations:
        return current
    used, counted = sum(utilizations), len(utilizations)
    ratio = used / counted / target
    if ratio > 1:
        counted += missing + unready
    elif ratio < 1:
        counted += missing
        used += missing * target
    if (used / counted / target - 1) * (ratio - 1) < 0:
        return current
    ratio = used / counted / target
    if abs(ratio - 1) <= tolerance + 1e-9:
        return current
    wanted = math.ceil(ratio * counted - 1e-9)
    turned_round = wanted > current if ratio < 1 else wanted < current
    return current if turned_round else wanted


@dataclass
class Controller:
    """Turns what the metrics ask for into a number of pods; remembers earlier recommendations and changes."""

    autoscaler: Autoscaler
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)

    def replicas(self, now: float, current: int, wanted: int) -> int:
        """Return the number of pods from `now`, in seconds, on, and remember it."""
        stable = self.stabilized(now, current, wanted)
        found = self.limited(now, current, stable)
        if found != current:
            self.changes.append((now, found - current))
        return found

    def stabilized(self, now: float, current: int, wanted: int) -> int:
        """Return the recommendation nearest to the current number in the windows: section "Stabilization window".

        Pods are removed only to the highest recommendation of the window of scale down, which counts itself, and added
        only to the lowest in that of scale up.
        """
        up, down = self.autoscaler.scale_up.stabilization_seconds, self.autoscaler.scale_down.stabilization_seconds
        lowest = min([wanted, *(count for time, count in self.recommendations if time > now - up)])
        highest = max([wanted, *(count for time, count in self.recommendations if time > now - down)])
        self.recommendations = [found for found in self.recommendations if found[0] > now - max(up, down)]
        self.recommendations.append((now, wanted))
        return min(max(current, lowest), highest)

    def limited(self, now: float, current: int, wanted: int) -> int:
        """Return the number that policies and bounds admit: section "Scaling policies"."""
        bounds = self.autoscaler.min_replicas, self.autoscaler.max_replicas
        if wanted > current:
            wanted = min(wanted, max(current, self.limit(now, current, self.autoscaler.scale_up, 1)))
        elif wanted < current:
            wanted = max(wanted, min(current, self.limit(now, current, self.autoscaler.scale_down, -1)))
        return min(max(wanted, bounds[0]), bounds[1])

    def limit(self, now: float, current: int, rules: Rules, sign: int) -> int:
        """Return the farthest number of pods that the policies admit in one direction, up (1) or down (-1)."""
        if rules.select == "Disabled":
            return current
        limits = []
        for policy in rules.policies:
            # What there were at the start of the period.
            start = current - sum(change for time, change in self.changes if time > now - policy.period_seconds)
            if policy.kind == "Pods":
                limits.append(start + sign * policy.value)
            elif sign > 0:
                limits.append(math.ceil(start * (1 + policy.value / 100)))
            else:
                limits.append(math.floor(start * (1 - policy.value / 100)))
        largest = (max if sign > 0 else min)(limits)
        smallest = (min if sign > 0 else max)(limits)
        return smallest if rules.select == "Min" else largest
