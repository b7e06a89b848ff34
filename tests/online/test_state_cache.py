"""Kept states: found by what they were made of, bounded, the least recently used goes first."""

import numpy as np
import pytest

from service.scoring.state_cache import StateCache


def user(**changes: object) -> dict:
    """A user's encoded tensors."""
    return {"user_sparse": np.array([[7]]), "history": np.array([[[1], [2]]]), **changes}


def state(floats: int = 25) -> dict:
    """A state of four bytes for each float."""
    return {"state_keys": np.zeros((1, floats), dtype=np.float32)}


@pytest.mark.parametrize(
    "other",
    [
        user(user_sparse=np.array([[8]])),
        user(history=np.array([[[2], [1]]])),
        user(history=np.array([[[1, 2]]])),  # the same bytes in another shape
        {"context_sparse": np.array([[7]]), "history": np.array([[[1], [2]]])},  # the same bytes by another name
    ],
)
def test_a_state_is_found_by_names_shapes_and_values(other):
    """Equal inputs find it, whatever arrays hold them; any difference does not."""
    cache, kept = StateCache(1000), state()
    cache.put(cache.key(user()), kept)

    np.testing.assert_equal(cache.get(cache.key(user())), kept)
    assert cache.get(cache.key(other)) is None
    assert cache.hits == 1


def test_the_least_recently_used_goes_first():
    """There is room for two of 100 bytes: a third one pushes out the one that was not asked for."""
    cache = StateCache(250)
    keys = [cache.key(user(user_sparse=np.array([[number]]))) for number in range(3)]
    cache.put(keys[0], state())
    cache.put(keys[1], state())
    cache.get(keys[0])
    cache.put(keys[2], state())

    assert [cache.get(key) is not None for key in keys] == [True, False, True]


def test_a_state_that_is_too_large_is_not_kept_and_pushes_nothing_out():
    """One byte too many, and the cache stays as it was."""
    cache = StateCache(100)
    small, large = cache.key(user()), cache.key({})
    cache.put(small, state(25))
    cache.put(large, state(26))

    assert cache.get(small) is not None
    assert cache.get(large) is None


@pytest.mark.parametrize("kept", [state(), state(0), {}, None])
def test_zero_bytes_keep_nothing(kept):
    """Neither does it make keys: every request has the same one, so a kept state would be everybody's."""
    cache = StateCache(0)
    cache.put(cache.key(user()), kept)

    assert cache.get(cache.key(user())) is None
    assert (cache.key(user()), cache.hits) == (b"", 0)


def test_empty_states_are_not_kept():
    """They would cost no bytes, so nothing would bound how many there are."""
    cache = StateCache(100)
    cache.put(cache.key(user()), state(0))

    assert cache.get(cache.key(user())) is None


def test_a_kept_state_holds_no_other_memory():
    """A view of a runtime's block would keep the whole block: the kept arrays own their bytes, and no more."""
    cache, block = StateCache(1000), np.zeros((1, 10_000), dtype=np.float32)
    cache.put(cache.key(user()), {"state_keys": block[:, :25]})

    kept = cache.get(cache.key(user()))["state_keys"]
    assert kept.base is None
    assert kept.nbytes == 100
