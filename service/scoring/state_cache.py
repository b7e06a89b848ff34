"""States of the user half, kept for users who come back before anything about them changed.

One cache per bundle. The key is made of the encoded user, context and history themselves, so nothing can be stale.
"""

from hashlib import blake2b

import numpy as np
from cachetools import LRUCache

from model.bundle.encode import Tensors
from service.runtimes.base import DeviceState


class StateCache:
    """The states used last, up to `max_bytes` in all; 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        self.hits = 0
        self._states: LRUCache[bytes, Tensors] = LRUCache(max_bytes, getsizeof=_size)

    def key(self, user: Tensors) -> bytes:
        """A digest of what the user half depends on: names, shapes and values of its inputs."""
        if not self._states.maxsize:
            return b""
        digest = blake2b(digest_size=16)  # the inputs themselves would take a tenth of the state's memory again
        for name, tensor in user.items():
            digest.update(f"{name}{tensor.shape}".encode())
            digest.update(np.ascontiguousarray(tensor).data)
        return digest.digest()

    def get(self, key: bytes) -> Tensors | None:
        """The state, if it is kept."""
        state = self._states.get(key)
        self.hits += state is not None
        return state

    def put(self, key: bytes, state: Tensors | None) -> None:
        """Keep a state, at the cost of those used longest ago. One that is too large is not kept, nor an empty one."""
        if state is not None and 0 < _size(state) <= self._states.maxsize:
            self._states[key] = state if isinstance(state, DeviceState) else _copied(state)

    def clear(self) -> int:
        """Drop all states; says how many. A state does not tell whose it is, so one user's cannot be found."""
        count = len(self._states)
        self._states.clear()
        return count


def _copied(state: Tensors) -> Tensors:
    """The same values in memory of their own: a view keeps the whole block of a runtime's allocator alive."""
    return {name: np.array(tensor) for name, tensor in state.items()}


def _size(state: Tensors) -> int:
    if isinstance(state, DeviceState):
        return state.nbytes if state.users == 1 else 0  # one of several users is of no use for one of them
    return sum(np.asarray(tensor).nbytes for tensor in state.values())
