"""How many CPUs this container may really use: the smaller of its CPU mask and its cgroup quota."""

import math
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(allowed: int, *, cgroup: Path = CGROUP) -> int:
    """Compute threads to start, at least 1. `allowed` is the size of the CPU mask (`len(os.sched_getaffinity(0))`).

    The quota is read from `cpu.max` (cgroup v2) or `cpu/cpu.cfs_quota_us` (v1) and rounded up: a thread more than
    the quota is throttled, a CPU less than the quota is wasted.
    """
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """CPUs granted; None where there is no limit or it cannot be read."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        limit, period = _v1_quota(cgroup / "cpu")
    if not (limit.isdigit() and period.isdigit() and int(period) > 0):
        return None  # "max", or "-1" in v1: no limit
    return int(limit) / int(period) if int(limit) > 0 else None


def _v1_quota(cpu: Path) -> tuple[str, str]:
    try:
        return (cpu / "cpu.cfs_quota_us").read_text().strip(), (cpu / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return "max", "100000"
