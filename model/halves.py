"""What every export format shares: the net in two halves at several sizes, and the gate that compares scores."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.bundle.calibration import UNCALIBRATED, Calibration
from model.bundle.encode import Tensors
from model.bundle.manifest import Half, TensorSpec
from model.nets import Net
from model.nets.calibrated import CalibratedSigmoid
from model.nets.gru import Gates

TOLERANCE = 1e-5  # largest difference in pCTR between eager and exported that passes the gate
# Users, history length and candidates: the example that is exported, and one where each of the three is another.
PROBES = ((2, 3, 4), (3, 3, 4), (2, 5, 4), (2, 3, 6))

EXPLAINED = ("attention", "update")  # what golden rows hold beside pCTR, where the net has them

Run = Callable[[Tensors, Tensors], Tensors]  # request and candidates -> pCTR [U, C] and the rest that golden rows hold


class ExportError(RuntimeError):
    """The exported graphs are not the net: scores differ, or a dimension that must vary is fixed."""


@dataclass(frozen=True, kw_only=True)
class ExportedHalves:
    """The graphs as bytes, and what the manifest says about them."""

    user: Half
    candidate: Half
    files: Mapping[str, bytes]
    golden: Tensors  # the inputs that the gate was run on, and from the eager net `pctr` [U, C] and EXPLAINED [U, C, L]
    explain: Half | None = None  # None for a net without attention


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The tensors of both halves at one choice of sizes; comparing probes tells which axes follow which size."""

    request: dict[str, Tensor]
    state: dict[str, Tensor]
    candidates: dict[str, Tensor]
    outputs: dict[str, Tensor]


def eager_pctr(
    net: Net, request: Tensors, candidates: Tensors, *, calibration: Calibration = UNCALIBRATED
) -> np.ndarray:
    """pCTR [U, C] of the eager net, calibrated."""
    with torch.inference_mode():
        pctr: Tensor = CalibratedSigmoid(calibration)(net(to_torch(request), to_torch(candidates)))
        return pctr.numpy()


def probe(
    net: Net,
    request: Tensors,
    candidates: Tensors,
    sizes: tuple[int, int, int],
    *,
    calibration: Calibration = UNCALIBRATED,
) -> Probe:
    """Both halves of the eager net, run on golden inputs cut or repeated to `sizes`: users, history, candidates."""
    users, length, count = sizes
    request_ = {n: _sized(t, (users, length) if n == "history" else (users,)) for n, t in request.items()}
    candidates_ = {n: _sized(t, (users, count)) for n, t in candidates.items()}
    with torch.no_grad():
        state = net.encode_user(request_)
        logit_UC = net.score(state, candidates_)
    return Probe(
        request=request_,
        state={name: tensor.clone() for name, tensor in state.items()},
        candidates=candidates_,
        outputs={"logit": logit_UC, "pctr": CalibratedSigmoid(calibration)(logit_UC)},
    )


def tensor_specs(probes: list[dict[str, Tensor]]) -> tuple[TensorSpec, ...]:
    """Names and shapes; an axis that changed between probe 0 and probe U, L or C is that dimension."""
    specs = []
    for name, tensor in probes[0].items():
        shape: list[int | str] = list(tensor.shape)
        for dimension, other in zip("ULC", probes[1:], strict=True):
            for axis, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)):
                if a != b:
                    shape[axis] = dimension
        specs.append(TensorSpec(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(shape)))
    return tuple(specs)


def replay_golden(exported: ExportedHalves, run: Run) -> None:
    """Replay the golden rows: all at once, then one user and one candidate at a time without the padding.

    Raises ExportError if anything that `run` gives differs from the eager net's by more than TOLERANCE.
    """
    golden = exported.golden
    expected = {name: golden[name] for name in ("pctr", *EXPLAINED) if name in golden}
    request = {spec.name: golden[spec.name] for spec in exported.user.inputs}
    candidates = {spec.name: golden[spec.name] for spec in exported.candidate.inputs if spec.name in golden}
    compare(run(request, candidates), expected, rows="all golden rows")
    for u in range(len(golden["pctr"])):
        length = max(int(golden["history_len"][u]), 1)
        one = {name: tensor[u : u + 1] for name, tensor in request.items()}
        one["history"] = one["history"][:, :length]
        first = {name: tensor[u : u + 1, :1] for name, tensor in candidates.items()}
        alone = {name: tensor[u : u + 1, :1, ..., :length] for name, tensor in expected.items() if name != "pctr"}
        compare(run(one, first), {"pctr": expected["pctr"][u : u + 1, :1], **alone}, rows=f"golden user {u} alone")


def compare(found: Tensors, expected: Tensors, *, rows: str) -> None:
    """Raise ExportError, saying which `rows`, if a tensor of `expected` differs by more than TOLERANCE anywhere.

    Attention without softmax has no bound, so beyond 1 the tolerance is relative.
    """
    for name, values in expected.items():
        difference = _difference(found[name], values)
        if not difference <= TOLERANCE:  # not ">", so that NaN is refused
            what = {"pctr": "pCTR"}.get(name, name)
            raise ExportError(f"{rows}: eager and exported {what} differ by {difference:.2e}, allowed {TOLERANCE:.0e}")


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, relative to what is expected where that is beyond 1."""
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max(initial=0.0))


def to_torch(tensors: Tensors) -> dict[str, Tensor]:
    """The same values as torch's tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}


@contextmanager
def replaced_recurrences(
    net: Net, replacements: Mapping[Callable[..., Tensor], Callable[..., Tensor]]
) -> Iterator[None]:
    """Let every loop of the net be its replacement while its graph is made; what was there comes back.

    Raises KeyError for a loop that has none: it would be unrolled at the example's length.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, Gates)]
    before = [layer.recurrence for layer in layers]
    for layer in layers:
        layer.recurrence = replacements[layer.recurrence]
    try:
        yield
    finally:
        for layer, recurrence in zip(layers, before, strict=True):
            layer.recurrence = recurrence


def _sized(tensor: np.ndarray, sizes: tuple[int, ...]) -> Tensor:
    """`tensor` cycled or cut to `sizes` along its first axes."""
    for axis, size in enumerate(sizes):
        tensor = np.take(tensor, np.arange(size) % tensor.shape[axis], axis=axis)
    return torch.from_numpy(np.ascontiguousarray(tensor))
