"""The number of compute threads follows the container's limit, not the machine's cores."""

import pytest

from service.runtimes.cpu_limit import usable_cpus


def files(root, **contents):
    """A cgroup folder with these files."""
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000\n", 8),  # no limit: the mask
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # rounded up
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),  # more than the mask
        ("nonsense\n", 8),
        ("", 8),
    ],
)
def test_cgroup_v2(tmp_path, cpu_max, expected):
    """cpu.max holds quota and period."""
    assert usable_cpus(8, cgroup=files(tmp_path, cpu_DOT_max=cpu_max)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1\n", 8), ("300000\n", 3), ("0\n", 8)])
def test_cgroup_v1(tmp_path, quota, expected):
    """Where there is no cpu.max, quota and period are files of their own; -1 is no limit."""
    names = {"cpu__cpu_DOT_cfs_quota_us": quota, "cpu__cpu_DOT_cfs_period_us": "100000\n"}

    assert usable_cpus(8, cgroup=files(tmp_path, **names)) == expected


def test_without_cgroups_it_is_the_mask(tmp_path):
    """Outside of a container there is nothing to read, and there is always at least one thread."""
    assert usable_cpus(8, cgroup=tmp_path) == 8
    assert usable_cpus(0, cgroup=tmp_path) == 1
