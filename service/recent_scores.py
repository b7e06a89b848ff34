"""What several processes remember of the scores they gave lately, as one memory.

    each process   adds its requests to a memory of its own; twice a second, and when somebody looks, into its file
    any process    adds the files up

A memory fades with the requests of all processes, so one that gets little traffic does not keep what is long past, and
the sum is that of the latest requests, whoever scored them. A process on its own needs no file.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.drift import GROUPS, Counts, Memory, faded
from service.process import Place
from service.source import ROLES, Role

_STATE = slice(GROUPS + 1)  # of a Memory
_EVER, _SEEN = GROUPS + 1, GROUPS + 2  # requests that this process ever had; those of all that its memory has faded by
_SHAPE = (len(ROLES), GROUPS + 3)


class RecentScores:
    """By role of the bundle."""

    def __init__(self, place: Place | None) -> None:
        self._folder = None if place is None else place.metrics
        self._new = {role: Memory() for role in ROLES}
        self._own: Counts = np.zeros(_SHAPE)
        if place is not None:
            self._own = np.memmap(place.metrics / f"scores_{place.number}.f64", np.float64, mode="w+", shape=_SHAPE)

    def add(self, role: Role, counts: NDArray[np.int64], *, requests: int = 1) -> None:
        """Some requests' candidates up to each end of a group [GROUPS]."""
        self._new[role].add(counts, requests=requests)

    def forget(self, role: Role) -> None:
        """Begin anew, because another bundle serves now."""
        self._new[role].take()
        self._own[ROLES.index(role), _STATE] = 0

    def refresh(self) -> None:
        """Let the others know what was added."""
        for number, role in enumerate(ROLES):
            own, (state, requests) = self._own[number], self._new[role].take()
            own[_EVER] += requests
            ever = _ever([memory[number] for memory in self._all()])
            own[_STATE] = faded(own[_STATE], requests=ever - own[_SEEN]) + state
            own[_SEEN] = ever

    def summed(self, role: Role) -> tuple[Counts, float]:
        """Candidates up to each end of a group [GROUPS], and the requests' worth of them, of all processes."""
        memories = [memory[ROLES.index(role)] for memory in self._all()]
        ever = _ever(memories)  # some have not faded by all of them yet
        state: Counts = np.sum([faded(memory[_STATE], requests=ever - memory[_SEEN]) for memory in memories], axis=0)
        return state[:GROUPS], float(state[GROUPS])

    def _all(self) -> Iterator[Counts]:
        if self._folder is None:
            yield self._own
            return
        for path in self._folder.glob("scores_*.f64"):
            found = np.fromfile(path)
            if found.size == self._own.size:  # less: a replacement is about to make it
                yield found.reshape(_SHAPE)


def _ever(memories: list[Counts]) -> float:
    """Requests of all processes that ever were."""
    return float(sum(memory[_EVER] for memory in memories))
