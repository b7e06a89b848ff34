"""The closed set of shapes that calls on a GPU are padded to. Pure.

A GPU's memory pools and its kernels are set up per shape, and requests bring thousands of shapes (users, candidates,
behaviors); padded up to a few sizes they all meet shapes that were run before the service was ready. Padding is index
0, and history_len says where it begins, so it moves no score. Shapes: U users, C candidates, L history.
"""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors

FEWEST = 32  # candidates that are worth a shape of their own: fewer cost a GPU as much
LENGTHS = 3  # sizes of the history: the longest, half of it, and a quarter
USERS = 8  # requests that share a call, at most
LARGEST = 2048  # candidates in one call, at most
JOINED = 2048  # users times candidates where requests share a call, at most


class Shape(NamedTuple):
    """One size of a call."""

    users: int
    candidates: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Buckets:
    """The sizes along each axis, ascending."""

    users: tuple[int, ...]
    candidates: tuple[int, ...]
    lengths: tuple[int, ...]

    def fit_users(self, users: int) -> int:
        """The size to pad `users` to."""
        return _fit(users, self.users)

    def fit_candidates(self, candidates: int) -> int:
        """The size to pad `candidates` to."""
        return _fit(candidates, self.candidates)

    def fit_length(self, length: int) -> int:
        """The size to pad a history of `length` to; an empty one is padded too."""
        return _fit(length, self.lengths)

    def shapes(self) -> tuple[Shape, ...]:
        """Every shape that a call within the limits may have, largest first, so that memory is taken once.

        At most 4 * 7 * 3 = 84 with the largest limits; fewer, since many candidates of many users never share a call.
        """
        pairs = [
            (users, candidates)
            for users, candidates in product(self.users, self.candidates)
            if users == 1 or self._smallest(users, self.users) * self._smallest(candidates, self.candidates) <= JOINED
        ]
        shapes = [Shape(users, candidates, length) for users, candidates in pairs for length in self.lengths]
        return tuple(sorted(shapes, key=lambda shape: (-shape.users * shape.candidates * shape.length, shape)))

    @staticmethod
    def _smallest(size: int, sizes: tuple[int, ...]) -> int:
        """The fewest that are padded to `size`."""
        at = sizes.index(size)
        return sizes[at - 1] + 1 if at else 1


def make_buckets(*, max_candidates: int, max_history: int) -> Buckets:
    """Powers of two for users and candidates; the longest history, halved and halved again."""
    longest = min(max_candidates, LARGEST)
    return Buckets(
        users=_doubled(1, USERS),
        candidates=_doubled(min(FEWEST, longest), longest),
        lengths=tuple(sorted({max(1, -(-max_history // 2**half)) for half in range(LENGTHS)})),
    )


def padded(tensors: Tensors, sizes: tuple[int, ...]) -> Tensors:
    """Every tensor with its first axes grown to `sizes`, by zeros at the end; contiguous."""
    return {name: _grown(tensor, sizes) for name, tensor in tensors.items()}


def _grown(tensor: NDArray[np.generic], sizes: tuple[int, ...]) -> NDArray[np.generic]:
    shape = (*sizes, *tensor.shape[len(sizes) :])
    if shape == tensor.shape:
        return np.ascontiguousarray(tensor)
    grown = np.zeros(shape, dtype=tensor.dtype)
    grown[tuple(slice(size) for size in tensor.shape)] = tensor
    return grown


def _fit(size: int, sizes: tuple[int, ...]) -> int:
    """The smallest of `sizes` that holds `size`; beyond them (golden rows alone) a multiple of the largest."""
    return next((fits for fits in sizes if size <= fits), -(-size // sizes[-1]) * sizes[-1])


def _doubled(first: int, last: int) -> tuple[int, ...]:
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(min(2 * sizes[-1], last))
    return tuple(sizes)
