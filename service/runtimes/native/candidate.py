"""The candidate half in the kernel: tensors checked, then handed over by address."""

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from service.runtimes.base import RuntimeFailure
from service.runtimes.native.library import BFLOAT16, Batch, Kernel, NativeUnavailable
from service.runtimes.native.packing import PackedNet
from service.runtimes.native.weights import CandidateWeights

Wanted = tuple[type[np.generic], tuple[int, ...]]


class NativeCandidate:
    """Scores candidates of DIN or DIEN. Safe to call from several threads at once."""

    def __init__(self, weights: CandidateWeights, kernel: Kernel, *, path: str | None = None) -> None:
        """Pack the weights. `path` is one of `kernel.paths` or `kernel.rounding`; None takes the first of `paths`.

        Raises NativeUnavailable if this processor does not have it.
        """
        self.path = path or kernel.paths[0]
        here = [*kernel.paths, *kernel.rounding]
        if self.path not in here:
            raise NativeUnavailable(f"no path {self.path!r} on this processor, there is {', '.join(here)}")
        self._kernel = kernel
        self._net = PackedNet(weights, tiles=self.path == BFLOAT16)
        self._width, self._share = weights.width, len(weights.head_first)
        self._columns, self._dense = weights.columns, weights.dense
        self._recurrent = weights.gates is not None

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """`logit` and `pctr` [U, C]. Raises RuntimeFailure where a tensor does not fit or an index has no row."""
        tensors = {**state, **candidates}
        for name, axes in (("item_sparse", 3), ("state_mask", 2)):
            if name not in tensors or tensors[name].ndim != axes:
                raise RuntimeFailure(f"{name} with {axes} axes is missing")
        users, count, _ = tensors["item_sparse"].shape
        length = tensors["state_mask"].shape[1]
        inputs = {n: _checked(tensors, n, *wanted) for n, wanted in self._wanted(users, count, length).items()}
        outputs = {name: np.empty((users, count), dtype=np.float32) for name in ("logit", "pctr")}
        addresses = {name.removeprefix("state_"): array.ctypes.data for name, array in {**inputs, **outputs}.items()}
        batch = Batch(users=users, candidates=count, length=length, **addresses)
        self._kernel.score(self.path, self._net.struct, batch)
        return outputs

    def _wanted(self, users: int, count: int, length: int) -> dict[str, Wanted]:
        """Every tensor that the kernel reads, with its type and its whole shape."""
        wanted: dict[str, Wanted] = {
            "state_share": (np.float32, (users, self._share)),
            "state_pooled": (np.float32, (users, self._width)),
            "state_keys": (np.float32, (users, length, self._width + 1)),
            "state_mask": (np.float32, (users, length)),
            "item_sparse": (np.int64, (users, count, self._columns)),
        }
        if self._recurrent:
            wanted["state_inputs"] = (np.float32, (users, length, 3 * self._width))
        if self._dense:
            wanted["item_dense"] = (np.float32, (users, count, self._dense))
        return wanted


def _checked(tensors: Tensors, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The tensor as the kernel may read it: there, of that type and shape, contiguous."""
    tensor = tensors.get(name)
    if tensor is None:
        raise RuntimeFailure(f"{name} is missing")
    if tensor.dtype != dtype or tensor.shape != shape:
        raise RuntimeFailure(f"{name} is {tensor.dtype} {tensor.shape}, expected {np.dtype(dtype)} {shape}")
    return np.ascontiguousarray(tensor)
