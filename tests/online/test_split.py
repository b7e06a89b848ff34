"""Shares by hash: the size that was asked for, and larger ones keep everybody of smaller ones."""

import itertools
import math

import pytest

from service.split import in_share

KEYS = 100_000


@pytest.mark.parametrize("percent", [0.5, 5, 50])
def test_a_share_has_its_size(percent):
    """Of 100,000 users as many are chosen as was asked for, within 4 standard errors of a fair draw."""
    chosen = sum(in_share(f"v2:{user}", percent=percent) for user in range(KEYS))

    share = percent / 100
    assert abs(chosen - KEYS * share) < 4 * math.sqrt(KEYS * share * (1 - share))


def test_raising_the_percentage_moves_nobody_back():
    """Whoever is in a share is in every larger one."""
    chosen = [{user for user in range(KEYS) if in_share(f"v2:{user}", percent=p)} for p in (1, 10, 10.5, 60)]

    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))


def test_nobody_and_everybody():
    """0 % is nobody and 100 % everybody."""
    keys = [f"v2:{user}" for user in range(1000)]

    assert not any(in_share(key, percent=0) for key in keys)
    assert all(in_share(key, percent=100) for key in keys)


def test_salts_choose_independently():
    """Of one canary's half, half are in the next one's: it is not always the same users who try what is new."""
    first = [user for user in range(KEYS) if in_share(f"v2:{user}", percent=50)]
    both = sum(in_share(f"v3:{user}", percent=50) for user in first)

    assert abs(both - len(first) / 2) < 4 * math.sqrt(len(first) / 4)


def test_the_split_is_the_same_everywhere():
    """The choice depends on nothing but the key: these were chosen when the test was written."""
    assert [user for user in range(40) if in_share(f"v2:{user}", percent=10)] == [11, 18, 38]
