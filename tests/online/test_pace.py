"""The running mean of seconds per row that the door goes by."""

import pytest

from service.scoring.pace import USER_ROWS, Pace


def test_nothing_is_known_before_enough_rows():
    """A first small batch may have met cold caches; it refuses nobody."""
    pace = Pace()
    pace.learn(5.0, rows=10, users=1)

    assert pace.row_s == 0


def test_it_follows_a_change():
    """After many batches at another pace only that is left."""
    pace = Pace()
    pace.learn(10.0, rows=1000, users=0)
    first = pace.row_s
    for _ in range(500):
        pace.learn(20.0, rows=1000, users=0)

    assert (first, pace.row_s) == (pytest.approx(0.01), pytest.approx(0.02, rel=1e-3))


def test_a_dear_single_row_hardly_moves_it():
    """A batch weighs what it computed: one row and one user half, among hundreds of rows."""
    pace = Pace()
    pace.learn(10.0, rows=1000, users=0)
    pace.learn(0.5, rows=1, users=1)

    assert pace.row_s == pytest.approx((9.8 + 0.5) / (980 + 1 + USER_ROWS))


def test_a_pause_of_the_machine_is_not_its_speed():
    """A batch that took a hundred times as long as usual counts as four times."""
    pace = Pace()
    pace.learn(10.0, rows=1000, users=0)
    pace.learn(1000.0, rows=1000, users=0)

    assert pace.row_s == pytest.approx((9.8 + 40.0) / (980 + 1000))
