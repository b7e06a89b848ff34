"""A runtime whose candidate half is the native kernel and whose user half is ONNX Runtime. One thread per call."""

from pathlib import Path

import numpy as np

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_npy, read_npz
from model.bundle.manifest import MANIFEST
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits
from service.runtimes.native.candidate import NativeCandidate
from service.runtimes.native.library import BFLOAT16, FOLDER, Kernel
from service.runtimes.native.weights import CandidateWeights, read_weights
from service.runtimes.onnx import OneGraph

_ROUNDED_TOLERANCE = 2e-3  # of pCTR in bfloat16; on trained nets scores moved by 1e-4 at most (docs/log.md)


class NativeRuntime:
    """DIN or DIEN, as `Runtime`."""

    # Candidates run in groups of two vectors however the caller cuts; a cut costs the user's preparation again.
    limits = BatchLimits(smallest=64, largest=256, users=8, joined=80)

    def __init__(self, bundle: Bundle, *, path: str | None = None, folder: Path = FOLDER) -> None:
        """Read the weights. `path` names an instruction set, None is the fastest; `folder` holds the compiled kernel.

        Raises NativeUnavailable if the kernel is not built or has no such path here, BundleError naming the file if the
        weights are missing or do not fit together, or the manifest's calibration is wrong.
        """
        kernel = Kernel(folder)
        native = bundle.manifest.native
        if native is None:
            raise BundleError(MANIFEST, "has no weights for the native runtime; export the run again")
        tables = {f"table.{name}": read_npy(bundle.files, str(path)) for name, path in native.tables.items()}
        weights = read_weights(native, bundle.schema, {**read_npz(bundle.files, native.file), **tables})
        _check_share(bundle, weights, native.file)
        self._user = OneGraph(bundle, bundle.manifest.user_half)
        self._candidate = NativeCandidate(weights, kernel, path=path)
        self._calibration = bundle.manifest.parsed_calibration()
        self.path = self._candidate.path
        self.tolerance = _ROUNDED_TOLERANCE if self.path == BFLOAT16 else FLOAT32_TOLERANCE
        self.name = f"native-{self.path}"

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half. Tensors that its graph does not take are ignored."""
        return self._user.run(request)

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half: `logit` and `pctr` [U, C]; the kernel knows no calibration, so it is applied here."""
        scores = self._candidate.score(state, candidates)
        if self._calibration.identity:
            return scores
        return {**scores, "pctr": self._calibration.pctr(scores["logit"].astype(np.float32, copy=False))}


def _check_share(bundle: Bundle, weights: CandidateWeights, file: str) -> None:
    """Both halves must mean the same first layer of the head."""
    widths = [spec.shape[-1] for spec in bundle.manifest.user_half.outputs if spec.name == "state_share"]
    if widths != [len(weights.head_first)]:
        raise BundleError(file, f"head.candidate has {len(weights.head_first)} outputs, the user half gives {widths}")
