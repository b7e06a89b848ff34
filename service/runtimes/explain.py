"""What computes an explanation: the runtime that scores, once more without the history, and a graph for the attention.

It is a `Runtime` itself, so explanations are computed by the engine's threads under its budget, and never with others.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.explanation import without_history
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits, Runtime, RuntimeFailure

_EMPTY = "empty_"  # of the state without a history


class Explainer:
    """Tells `logit` and `logit_without_history` [U, C] and, of a net that has them, `attention`, `update` [U, C, L]."""

    name = "explain"
    tolerance = FLOAT32_TOLERANCE
    # Alone, and in pieces no dearer than the largest of a plain request.
    limits = BatchLimits(smallest=32, largest=64, users=1)

    def __init__(self, runtime: Runtime, graph: Callable[[Tensors], Tensors] | None) -> None:
        """`runtime` tells logits; `graph` takes state and items, None for a net without attention."""
        self._runtime = runtime
        self._graph = graph

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half twice: with the history and without."""
        empty = self._runtime.encode_user(without_history(request))
        return {**self._runtime.encode_user(request), **{_EMPTY + name: tensor for name, tensor in empty.items()}}

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """Everything but pCTR, which is the plain answer's."""
        full = {name: tensor for name, tensor in state.items() if not name.startswith(_EMPTY)}
        empty = {name.removeprefix(_EMPTY): tensor for name, tensor in state.items() if name not in full}
        told = {
            "logit": self._logit(full, candidates),
            "logit_without_history": self._logit(empty, candidates),
        }
        return {**told, **self._graph({**full, **candidates})} if self._graph else told

    def _logit(self, state: Tensors, candidates: Tensors) -> NDArray[np.generic]:
        outputs = self._runtime.score(state, candidates)
        if "logit" not in outputs:
            raise RuntimeFailure(f"the runtime {self._runtime.name} tells no logit")
        return outputs["logit"]
