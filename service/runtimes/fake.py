"""A runtime without a net, for tests and for trying the service: pure arithmetic on the indices it is given.

Every input moves every score, so a mixed-up, truncated or swapped request shows in the answer.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits, RuntimeFailure


class FakeRuntime:
    """Scores by arithmetic. `gate`, if given, holds every `score` until it is set; `failure` is raised by `score`."""

    name = "fake"
    tolerance = FLOAT32_TOLERANCE

    def __init__(
        self,
        *,
        gate: threading.Event | None = None,
        failure: BaseException | None = None,
        limits: BatchLimits = BatchLimits(),  # noqa: B008  # frozen
    ) -> None:
        self.limits = limits
        self.gate = gate
        self.failure = failure
        self.scored = 0  # calls of `score` that got past the gate

    def encode_user(self, request: Tensors) -> Tensors:
        """One number per user [U, 1], moved by every value of every tensor."""
        return {"state_mix": np.sum([_mix(request[name], keep=1) for name in sorted(request)], axis=0)[:, None]}

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """`logit` and `pctr` [U, C]."""
        if self.gate is not None:
            self.gate.wait()
        self.scored += 1
        if self.failure is not None:
            raise self.failure
        if not candidates:
            raise RuntimeFailure("no candidate tensors")
        mixed = np.sum([_mix(candidates[name], keep=2) for name in sorted(candidates)], axis=0)
        logit = np.sin(mixed + state["state_mix"]).astype(np.float32)
        return {"logit": logit, "pctr": (1 / (1 + np.exp(-logit))).astype(np.float32)}


def _mix(tensor: NDArray[np.generic], *, keep: int) -> NDArray[np.float64]:
    """One float per leading index: values weighted by their position, so that order counts. Shape of `keep` axes.

    Padding adds nothing, as in a net.
    """
    flat = tensor.reshape(*tensor.shape[:keep], -1).astype(np.float64)
    mixed: NDArray[np.float64] = flat @ np.sin(np.arange(1.0, flat.shape[-1] + 1))
    return mixed
