"""What a batch computes: the user half once per request, then candidates, joined by padding where there are several.

Shapes: U requests of one batch, C candidates, L behaviors, each padded to the longest of the batch. Padding is index 0
and history_len says where it begins, so it moves no score.
"""

from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from service.runtimes.base import DeviceState, Runtime, RuntimeFailure

_HISTORY = "history"


@dataclass(eq=False, kw_only=True)
class Work:
    """The inputs of one request, [1, ...] each, and its results as they come in."""

    runtime: Runtime
    user: Tensors
    candidates: Tensors  # [1, C, ...]
    state: Tensors | None = None  # of the user half; given, where the cache had it
    pctr: NDArray[np.float32] = field(init=False)  # [C]

    def __post_init__(self) -> None:
        """Make room for the scores."""
        self.pctr = np.empty(self.rows, dtype=np.float32)

    @property
    def rows(self) -> int:
        """Candidates."""
        return int(next(iter(self.candidates.values())).shape[1])

    @property
    def length(self) -> int:
        """Behaviors, padding included; 0 for a net without history."""
        return int(self.user[_HISTORY].shape[1]) if _HISTORY in self.user else 0

    def take(self, outputs: Tensors, row: int, piece: slice) -> None:
        """Keep what was computed for a piece of the candidates, in `row` of the outputs. Raises RuntimeFailure."""
        pctr = outputs["pctr"][row, : piece.stop - piece.start]
        if not np.isfinite(pctr).all():
            raise RuntimeFailure("a score is not a finite number")
        self.pctr[piece] = pctr


def encode(works: list[Work]) -> None:
    """Run the user half for all of them at once and give each its state. Raises RuntimeFailure."""
    runtime = works[0].runtime
    if len(works) == 1:
        works[0].state = runtime.encode_user(works[0].user)
        return
    joined = {name: _join([work.user[name] for work in works]) for name in works[0].user}
    state = runtime.encode_user(joined)
    if isinstance(state, DeviceState):
        for work in works:
            work.state = state  # of all of them: to cut it would bring it back from the device
        return
    for row, work in enumerate(works):
        # Copies: a state that is kept must not keep those of the others.
        work.state = {name: tensor[row : row + 1].copy() for name, tensor in state.items()}


def score(works: list[Work], pieces: list[slice]) -> None:
    """Run the candidate half on a piece of each and fill in the scores. Raises RuntimeFailure.

    Several works share a state that `encode` made for all of them in this order.
    """
    runtime = works[0].runtime
    if len(works) == 1 and isinstance(works[0].state, DeviceState) and works[0].state.users > 1:
        encode(works)  # it comes alone because its joined batch failed
    items = [
        {name: tensor[:, piece] for name, tensor in work.candidates.items()}
        for work, piece in zip(works, pieces, strict=True)
    ]
    states = [work.state for work in works]
    assert _all_there(states)
    if len(works) == 1:
        found = runtime.score(states[0], {name: np.ascontiguousarray(tensor) for name, tensor in items[0].items()})
    else:
        found = runtime.score(_together(states), {name: _join([i[name] for i in items]) for name in items[0]})
    for row, (work, piece) in enumerate(zip(works, pieces, strict=True)):
        work.take(found, row, piece)


def _join(tensors: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    """[1, n, ...] each -> [U, longest n, ...], padded with zeros; tensors without a second axis are stacked."""
    first = tensors[0]
    if first.ndim == 1 or len({tensor.shape for tensor in tensors}) == 1:
        return np.concatenate(tensors)
    longest = max(tensor.shape[1] for tensor in tensors)
    joined = np.zeros((len(tensors), longest, *first.shape[2:]), dtype=first.dtype)
    for row, tensor in enumerate(tensors):
        joined[row, : tensor.shape[1]] = tensor[0]
    return joined


def _together(states: list[Tensors]) -> Tensors:
    if isinstance(states[0], DeviceState):
        return states[0]  # one state of all of them
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}


def _all_there(states: list[Tensors | None]) -> TypeGuard[list[Tensors]]:
    return None not in states
