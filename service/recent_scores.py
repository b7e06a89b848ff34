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

_SHAPE = (len(ROLES), GROUPS + 2)  # a Memory's state, and how many requests there ever were


class RecentScores:
    """By role of the bundle."""

    def __init__(self, place: Place | None) -> None:
        self._folder = None if place is None else place.metrics
        self._new = {role: Memory() for role in ROLES}
        self._seen = [0.0] * len(ROLES)  # requests of all processes that this one's memory has faded by
        self._own: Counts = np.zeros(_SHAPE)
        if place is not None:
            self._own = np.memmap(place.metrics / f"scores_{place.number}.f64", np.float64, mode="w+", shape=_SHAPE)

    def add(self, role: Role, counts: NDArray[np.int64], *, requests: int = 1) -> None:
        """Some requests' candidates up to each end of a group [GROUPS]."""
        self._new[role].add(counts, requests=requests)

    def forget(self, role: Role) -> None:
        """Begin anew, because another bundle serves now."""
        self._new[role].take()
        self._own[ROLES.index(role), :-1] = 0

    def refresh(self) -> None:
        """Let the others know what was added."""
        for number, role in enumerate(ROLES):
            state, requests = self._new[role].take()
            self._own[number, -1] += requests
            ever = float(sum(memory[number, -1] for memory in self._all()))
            self._own[number, :-1] = faded(self._own[number, :-1], requests=ever - self._seen[number]) + state
            self._seen[number] = ever

    def summed(self, role: Role) -> tuple[Counts, float]:
        """Candidates up to each end of a group [GROUPS], and the requests' worth of them, of all processes."""
        memory: Counts = np.sum([memory[ROLES.index(role)] for memory in self._all()], axis=0)
        return memory[:GROUPS], float(memory[GROUPS])

    def _all(self) -> Iterator[Counts]:
        if self._folder is None:
            yield self._own
            return
        for path in self._folder.glob("scores_*.f64"):
            found = np.fromfile(path)
            if found.size == self._own.size:  # less: a replacement is about to make it
                yield found.reshape(_SHAPE)
