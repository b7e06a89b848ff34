"""What executes a bundle: the two halves of its net, as blocking calls that release the GIL."""

from typing import Protocol

from model.bundle.encode import Tensors


class Runtime(Protocol):
    """The two halves. Safe to call from several threads at once. Raises RuntimeFailure when the graph fails."""

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half: request tensors of U users and their history -> state tensors by name."""
        ...

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half: state and item tensors [U, C, ...] -> the graph's outputs; `pctr` [U, C] is one."""
        ...


class RuntimeFailure(Exception):
    """The graph could not be loaded or run."""
