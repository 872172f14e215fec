"""Profiles: how many users at which time, and what their objectives say."""

from __future__ import annotations

import pytest

from loadtest.profiles import PROFILES, Measured, Objectives

FOUND = Measured(requests=1_000, p50=0.01, p99=0.04, errors=0.0, hit_rate=0.94, rate=1_200.0)


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("sentiment", {0: 1, 15: 6, 30: 10, 449: 10, 540: 5, 629: 0, 630: None}),
        ("image", {0: 1, 50: 51, 149: 149, 150: 150, 299: 150, 300: None}),
        ("spike", {0: 5, 29: 5, 30: 100, 49: 100, 50: 5, 79: 5, 80: None}),
        ("steps", {0: 1, 29: 1, 30: 2, 59: 2, 60: 4, 329: 1_024, 330: None}),
        ("soak", {0: 20, 3_599: 20, 3_600: None}),
        ("ramp", {0: 1, 30: 300, 59: 590, 60: None}),
        ("rush", {0: 1, 30: 3_000, 59: 5_900, 60: None}),
    ],
)
def test_users_over_time(name: str, users: dict[float, int | None]) -> None:
    profile = PROFILES[name]
    assert {seconds: profile.users_at(seconds) for seconds in users} == pytest.approx(users, abs=1)


def test_segmentation_sends_ten_thousand_requests_in_a_minute() -> None:
    profile = PROFILES["segmentation"]
    files = 1
    assert profile.per_user is not None
    assert (profile.peak - files) * profile.per_user * profile.seconds == pytest.approx(10_000)


@pytest.mark.parametrize("name", PROFILES)
def test_a_scaled_profile_has_the_same_users_in_another_time(name: str) -> None:
    profile, scaled = PROFILES[name], PROFILES[name].scaled(2)
    assert scaled.seconds == pytest.approx(120)
    assert scaled.users_at(60) == profile.users_at(profile.seconds / 2)


@pytest.mark.parametrize(
    ("objectives", "missed"),
    [
        (Objectives(p50=0.01, p99=0.05, errors=0, hit_rate=0.9, rate=1_000), []),
        (Objectives(p99=0.03), ["p99"]),
        (Objectives(hit_rate=0.95), ["hit_rate"]),
        (Objectives(rate=1_300, p50=0.005), ["p50", "rate"]),
    ],
)
def test_an_objective_is_met_or_missed(objectives: Objectives, missed: list[str]) -> None:
    assert [verdict.name for verdict in objectives.judge(FOUND) if not verdict.met] == missed


def test_a_verdict_says_what_was_wanted_and_found() -> None:
    (verdict,) = Objectives(errors=None, rate=1_300).judge(FOUND)
    assert str(verdict) == "rate: wanted at least 1300, found 1200: MISSED"


def test_without_requests_every_objective_is_missed() -> None:
    nothing = Measured(requests=0, p50=0, p99=0, errors=0, hit_rate=0, rate=0)
    assert not any(verdict.met for verdict in PROFILES["smoke"].objectives.judge(nothing))


def test_the_command_line_overrides_objectives() -> None:
    objectives = PROFILES["sentiment"].objectives.overridden({"p99": 2.0, "rate": None}, usual=True)
    assert (objectives.p99, objectives.rate) == (2.0, 1_000)


def test_under_another_load_only_errors_and_what_is_asked_for_are_judged() -> None:
    assert PROFILES["sentiment"].objectives.overridden({"rate": 100.0}, usual=False) == Objectives(errors=0, rate=100.0)
