"""Profiles as options of k6: stages, thresholds and what the summary shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from loadtest.profiles import PROFILES, WEIGHTS, Objectives, Profile

TREND_STATS = ["min", "avg", "med", "max", "p(90)", "p(95)", "p(99)", "p(99.99)"]
# Requests in flight when users are stopped are still awaited, as in Locust.
STOP_SECONDS = 15
MODELS = {
    "SentimentUser": ["sentiment"],
    "BreastCancerUser": ["breast_cancer"],
    "SegmentationUser": ["segmentation"],
    "ImageUser": ["image"],
    "MixedUser": list(WEIGHTS),
}
# What k6 leaves out: files of rows, which one user uploads, and steps that end where an objective breaks.
FILE_USER = "FileUser"
NAMES = [name for name, profile in PROFILES.items() if not profile.in_steps]


def models_of(profile: Profile) -> list[str]:
    """Return the models that the users of a profile ask."""
    return [model for user in profile.users if user != FILE_USER for model in MODELS[user]]


def stages(profile: Profile) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of users at the start, and stages of a length in seconds that lead to another number."""
    left_out = int(FILE_USER in profile.users)
    points = [(seconds, max(0, users - left_out)) for seconds, users in profile.points]
    found = [{"duration": f"{end - start:g}s", "target": users} for (start, _), (end, users) in pairwise(points)]
    return points[0][1], found


def thresholds(objectives: Objectives) -> dict[str, list[str]]:
    """Return objectives as k6's thresholds, which count over the whole run: the rate, too, as users come and go."""
    found: dict[str, list[str]] = {}
    for name, share in (("p50", "p(50)"), ("p99", "p(99)")):
        if (seconds := getattr(objectives, name)) is not None:
            found.setdefault("http_req_duration", []).append(f"{share}<={1000 * seconds:g}")
    if objectives.errors is not None:
        found["http_req_failed"] = [f"rate<={objectives.errors:g}"]
        found["checks"] = [f"rate>={1 - objectives.errors:g}"]
    if objectives.hit_rate is not None:
        found["cache_hits"] = [f"rate>={objectives.hit_rate:g}"]
    if objectives.rate is not None:
        found["http_reqs"] = [f"rate>={objectives.rate:g}"]
    return found


def options(profile: Profile) -> dict[str, Any]:
    """Return what k6 calls the options of a script."""
    start, steps = stages(profile)
    users = {
        "executor": "ramping-vus",
        "startVUs": start,
        "stages": steps,
        "gracefulStop": f"{STOP_SECONDS}s",
        "gracefulRampDown": f"{STOP_SECONDS}s",
    }
    return {
        "scenarios": {"users": users},
        "thresholds": thresholds(profile.objectives),
        "summaryTrendStats": TREND_STATS,
        "userAgent": "tiffin-loadtest",
    }
