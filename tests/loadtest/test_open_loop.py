"""The open loop: when requests are due, and that latency counts from then."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import numpy as np
import pytest

from loadtest import inputs
from loadtest.open_loop import arrivals, drawn, due_times
from tests.support import ROOT
from tests.support.stub_server import stub


@pytest.mark.parametrize("cv", [0.0, 1.0, 3.0])
def test_intervals_have_the_mean_and_the_variation_asked_for(cv: float) -> None:
    intervals = np.diff(due_times(100, 2_000, cv, seed=1))
    assert intervals.mean() == pytest.approx(0.01, rel=0.05)
    assert intervals.std() / intervals.mean() == pytest.approx(cv, rel=0.05, abs=1e-6)


def test_latency_counts_from_when_a_request_was_due() -> None:
    with stub({}, stall_seconds=1.0) as address:
        seen = asyncio.run(arrivals(address, [inputs.sentiment(0)], due_times(20, 1, cv=0)))
    took = sorted(seen.accepted)
    assert len(took) == 20
    # All wait for the end of the stall; the one that is due last before it waits least.
    assert took[-1] >= 1.0
    assert took[len(took) // 2] >= 0.4


def test_what_is_sent_late_has_taken_longer() -> None:
    with stub({}) as address:
        seen = asyncio.run(arrivals(address, [inputs.sentiment(0)], [-5.0]))
    assert seen.late[0] >= 5
    assert seen.accepted[0] >= seen.late[0]


def test_requests_repeat_as_often_as_asked() -> None:
    bodies = [request.body for request in drawn("sentiment", 2_000, 0.8)]
    assert 0.15 < len(set(bodies)) / len(bodies) - 100 / 2_000 < 0.25


@pytest.mark.parametrize("model", inputs.REQUESTS)
def test_the_server_takes_every_kind_of_request(server: str, model: str) -> None:
    done = run("--host", server, "--model", model, "--rate", "20", "--seconds", "1", "--arrivals", "gamma")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["rate", "latency", "refused", "failed", "sent"]


@pytest.mark.parametrize(("status", "code", "line"), [(503, 0, "refused     100.00%"), (500, 1, "failed      100.00%")])
def test_a_refusal_is_told_and_a_failure_decides(status: int, code: int, line: str) -> None:
    with stub({"error": "no"}, status) as address:
        done = run("--host", address, "--rate", "20", "--seconds", "0.5", "--arrivals", "even")
    assert done.returncode == code
    assert line in done.stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.open_loop", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
