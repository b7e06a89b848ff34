"""What executes a bundle: the two halves of its net, as blocking calls that release the GIL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from model.bundle.encode import Tensors
from service.runtimes.shapes import Shape

FLOAT32_TOLERANCE = 1e-5  # of pCTR; the export gate uses the same


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """How the queue may cut and join work for a runtime. Rows are candidates; padding counts when requests are joined.

    `pairs` bounds rows times history length, which is what activations grow with.
    """

    smallest: int = 48  # rows that are worth a thread of their own
    largest: int = 128  # rows in one call: between calls a thread looks for expired work
    users: int = 1  # requests in one call
    joined: int = 128  # rows of joined requests in one call
    pairs: int = 1_000_000
    shapes: tuple[Shape, ...] = ()  # all that the runtime pads its calls to; none: it takes calls as they are


class DeviceState(dict[str, Any]):
    """State tensors by name that stay where the runtime computes. `Any`: only that runtime looks into them.

    It is of `users` users together and cannot be cut; `padded` is their number on the device, `nbytes` its memory.
    """

    def __init__(self, tensors: Mapping[str, Any], *, users: int, padded: int, nbytes: int) -> None:
        super().__init__(tensors)
        self.users = users
        self.padded = padded
        self.nbytes = nbytes


class Runtime(Protocol):
    """The two halves. Safe to call from several threads at once. Raises RuntimeFailure when the graph fails."""

    name: str  # for the log
    tolerance: float  # largest difference from a golden score that is no mistake
    limits: BatchLimits

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half: request tensors of U users and their history -> state tensors by name, or a DeviceState."""
        ...

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half: a state made here and item tensors [U, C, ...] -> outputs; `pctr` [U, C] is one."""
        ...


class RuntimeFailure(Exception):
    """The graph could not be loaded or run."""
