"""How many cores this process may use, by what it is bound to and by the limits of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

# With more cores, one event loop cannot keep the models of a worker busy.
CORES_PER_WORKER = 4


def bound_cores() -> int:
    """Return how many cores this process is bound to; where a process cannot be bound, all of the machine's."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where a container limits the CPU.

    `cgroups` is where control groups are mounted, of version 2 or 1; `own` names the groups of this process.
    """
    quotas = [quota for folder in cgroup_folders(cgroups, own) if (quota := cpu_quota(folder)) is not None]
    return max(1, math.ceil(min([bound_cores(), *quotas])))


def cgroup_folders(cgroups: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of the control groups whose CPU limits hold for this process: its own and all above it."""
    roots = {"": cgroups, "cpu": cgroups / "cpu"}
    yield from roots.values()
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for root in (roots[name] for name in controllers.split(",") if name in roots):
            # In a container these may be names of the host, which are not mounted, or lead out of what is mounted.
            parts = [part for part in group.split("/") if part]
            if ".." not in parts:
                yield from (root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))


def cpu_quota(folder: Path) -> float | None:
    """Return the number of cores to which a control group is limited; None when it is not."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def default_workers() -> int:
    """Return the number of workers by default: one for every four cores, and at least one."""
    return max(1, available_cores() // CORES_PER_WORKER)
