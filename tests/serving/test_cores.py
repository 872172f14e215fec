"""The number of cores that the server finds under CPU affinity and control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving import cores
from serving.cores import available_cores, bound_cores

LIMITS = {
    "none": ({}, 8),
    "2-unlimited": ({"cpu.max": "max 100000\n"}, 8),
    "2": ({"cpu.max": "200000 100000\n"}, 2),
    "2-one-and-a-half": ({"cpu.max": "150000 100000\n"}, 2),
    "2-half": ({"cpu.max": "50000 100000\n"}, 1),
    "2-more-than-bound": ({"cpu.max": "1600000 100000\n"}, 8),
    "2-its-own": ({"pods/one/cpu.max": "300000 100000\n"}, 3),
    "2-of-a-parent": ({"pods/cpu.max": "200000 100000\n", "pods/one/cpu.max": "max 100000\n"}, 2),
    "2-the-smallest": ({"pods/cpu.max": "400000 100000\n", "pods/one/cpu.max": "300000 100000\n"}, 3),
    "2-of-others": ({"other/cpu.max": "200000 100000\n"}, 8),
    "1-unlimited": ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    "1": ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    "1-of-a-parent": ({"cpu/pods/cpu.cfs_quota_us": "300000\n", "cpu/pods/cpu.cfs_period_us": "100000\n"}, 3),
}


@pytest.mark.parametrize(("files", "expected"), LIMITS.values(), ids=LIMITS)
def test_cores_are_those_of_the_cgroups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(cores, "bound_cores", lambda: 8)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    (tmp_path / "own").write_text("3:cpuset:/\n2:cpuacct,cpu:/pods/one\n0::/pods/one\n", encoding="ascii")
    assert available_cores(tmp_path, tmp_path / "own") == expected


@pytest.mark.parametrize("own", ["0::/../../outside\n", "0::/not/mounted\n"])
def test_a_cgroup_that_is_not_mounted_sets_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str) -> None:
    monkeypatch.setattr(cores, "bound_cores", lambda: 8)
    (tmp_path / "own").write_text(own, encoding="ascii")
    assert available_cores(tmp_path, tmp_path / "own") == 8


def test_cores_are_those_that_the_process_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 4, raising=False)
    assert bound_cores() == 4
    monkeypatch.delattr(os, "process_cpu_count")
    assert bound_cores() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    assert bound_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert bound_cores() == 1
