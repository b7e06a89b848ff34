"""States of the user half, kept for users who come back before anything about them changed.

One cache per bundle. The key is the encoded user, context and history themselves, so nothing can be stale.
"""

from collections.abc import Hashable

import numpy as np
from cachetools import LRUCache

from model.bundle.encode import Tensors
from service.runtimes.base import DeviceState


class StateCache:
    """The states used last, up to `max_bytes` in all; 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        self.hits = 0
        self._states: LRUCache[Hashable, Tensors] = LRUCache(max_bytes, getsizeof=_size)

    def key(self, user: Tensors) -> Hashable:
        """What the user half depends on: names, shapes and values of its inputs."""
        if not self._states.maxsize:
            return ()
        return tuple((name, tensor.shape, tensor.tobytes()) for name, tensor in user.items())

    def get(self, key: Hashable) -> Tensors | None:
        """The state, if it is kept."""
        state = self._states.get(key)
        self.hits += state is not None
        return state

    def put(self, key: Hashable, state: Tensors | None) -> None:
        """Keep a state, at the cost of those used longest ago. One that is too large is not kept, nor an empty one."""
        if state is not None and 0 < _size(state) <= self._states.maxsize:
            self._states[key] = state


def _size(state: Tensors) -> int:
    if isinstance(state, DeviceState):
        return state.nbytes if state.users == 1 else 0  # one of several users is of no use for one of them
    return sum(np.asarray(tensor).nbytes for tensor in state.values())
