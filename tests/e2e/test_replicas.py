"""`make replicas`: several containers behind a balancer, under load."""

from __future__ import annotations

import pytest

from benchmarks import replicas
from tests.support.containers import ENGINE, IMAGE


def test_servers_behind_a_balancer_share_the_load(
    image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replicas, "ENGINE", ENGINE)
    monkeypatch.setattr(replicas, "IMAGE", IMAGE)
    # Not the cores and the length of the report, with which starts alone take a minute.
    given = ["--servers", "3", "--profiles", "ramp", "--cpus", "1", "--minutes", "0.1", "--p99", "60"]
    assert replicas.main(given) == 0
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")]
    assert row[1] == "3"
    assert int(row[2].replace(",", "")) > 0
    assert (row[3], row[4], row[-1]) == ("0.0%", "0.0%", "holds")
    shares = [float(cores) for cores in row[-2].split(", ")]
    assert len(shares) == 3
    assert min(shares) > max(shares) / 3
