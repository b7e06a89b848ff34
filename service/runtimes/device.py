"""Where a bundle is executed, and what is the same for every format on a GPU.

    request -> padded to a known shape -> user half   -> state, which stays on the device
    items   -> padded to a known shape -> candidate half on that state -> pCTR, the only thing that comes back

Any `Halves` will do, also on the CPU, which is how all of this is tested without a GPU.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np

from model.bundle.encode import Tensors
from model.bundle.folder import Bundle
from model.bundle.manifest import Manifest, TensorSpec
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits, DeviceState, RuntimeFailure
from service.runtimes.shapes import JOINED, Buckets, make_buckets, padded


@dataclass(frozen=True, slots=True)
class Device:
    """`cpu`, or a GPU by its number."""

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `cpu`, `cuda` or `cuda:N`. Raises ValueError."""
        match text.split(":"):
            case ["cpu"]:
                return cls()
            case ["cuda"]:
                return cls("cuda")
            case ["cuda", index] if index.isdecimal():
                return cls("cuda", int(index))
        raise ValueError(f"no device {text!r}, allowed: cpu, cuda, cuda:N")


class Halves(Protocol):
    """The two halves on a device. Safe to call from several threads at once. `Any`: its own tensors on the device."""

    name: str  # for the log

    def encode(self, request: Tensors) -> dict[str, Any]:
        """The user half: state tensors by name, on the device. Raises RuntimeFailure."""
        ...

    def pctr(self, state: dict[str, Any], items: Tensors) -> np.ndarray:
        """The candidate half: pCTR [U, C], here. Raises RuntimeFailure."""
        ...


class DeviceRuntime:
    """Halves on a device, as `Runtime`: whatever comes is padded to one of `limits.shapes`."""

    tolerance = FLOAT32_TOLERANCE

    def __init__(self, halves: Halves, bundle: Bundle, *, max_candidates: int) -> None:
        """`max_candidates` of a request bounds the shapes."""
        buckets = make_buckets(max_candidates=max_candidates, max_history=bundle.schema.max_history)
        self.name = halves.name
        self.limits = device_limits(buckets)
        self._halves, self._buckets = halves, buckets
        self._takes = _inputs(bundle.manifest)
        self._gives = bundle.manifest.user_half.outputs

    def encode_user(self, request: Tensors) -> DeviceState:
        """The user half. Tensors that it does not take are ignored."""
        wanted = {name: request[name] for name in self._takes[0]}
        users, length = len(request["history_len"]), request["history"].shape[1]
        rows, width = self._buckets.fit_users(users), self._buckets.fit_length(length)
        history = padded({"history": wanted.pop("history")}, (rows, width))
        state = self._halves.encode({**padded(wanted, (rows,)), **history})
        return DeviceState(state, users=users, padded=rows, nbytes=state_bytes(self._gives, users=rows, length=width))

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half: `pctr` [U, C] alone."""
        if not isinstance(state, DeviceState):
            raise RuntimeFailure("the state was made by another runtime")
        wanted = {name: candidates[name] for name in self._takes[1]}
        users, count = next(iter(wanted.values())).shape[:2]
        pctr = self._halves.pctr(state, padded(wanted, (state.padded, self._buckets.fit_candidates(count))))
        return {"pctr": pctr[:users, :count]}


def device_limits(buckets: Buckets) -> BatchLimits:
    """A GPU is one device, so nothing is cut that fits a shape, and small requests share a call."""
    largest = buckets.candidates[-1]
    return BatchLimits(
        smallest=largest, largest=largest, users=buckets.users[-1], joined=JOINED, shapes=buckets.shapes()
    )


def state_bytes(outputs: tuple[TensorSpec, ...], *, users: int, length: int) -> int:
    """Memory of a state of so many users and behaviors, padding included."""
    sizes = {"U": users, "L": length}
    shapes = [(spec, [sizes[n] if isinstance(n, str) else n for n in spec.shape]) for spec in outputs]
    return sum(math.prod(shape) * np.dtype(spec.dtype).itemsize for spec, shape in shapes)


def _inputs(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Names of the tensors of a request, and of its items."""
    user = [spec.name for spec in manifest.user_half.inputs]
    items = [spec.name for spec in manifest.candidate_half.inputs if not spec.name.startswith("state_")]
    return user, items
