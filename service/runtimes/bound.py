"""ONNX Runtime with IO binding: tensors stay where they are computed. For CUDA; on the CPU for tests.

ONNX Runtime goes on with the CPU, and only logs it, where CUDA cannot be had. Here that is a refusal.
"""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import onnxruntime as ort

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle
from model.bundle.manifest import MANIFEST, Half
from service.runtimes.base import RuntimeFailure
from service.runtimes.device import Device
from service.runtimes.onnx import Provider, open_session

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class BoundHalves:
    """The two graphs of a bundle on one device, as `Halves`."""

    def __init__(self, bundle: Bundle, device: Device) -> None:
        """Load both graphs. Raises BundleError if the device cannot be had, or naming the file that is at fault."""
        manifest = bundle.manifest
        providers = find_providers(device)
        self.name = f"onnx-{device}"
        self._device = device
        self._user, self._candidate = (
            _open(bundle, half, device=device, providers=providers)
            for half in (manifest.user_half, manifest.candidate_half)
        )
        self._state_names = [spec.name for spec in manifest.user_half.outputs]

    def encode(self, request: Tensors) -> dict[str, Any]:
        """The user half: OrtValues by name, on the device."""
        binding = self._user.io_binding()
        for name, tensor in request.items():
            binding.bind_cpu_input(name, tensor)
        for name in self._state_names:
            binding.bind_output(name, self._device.kind, self._device.index)
        _run(self._user, binding)
        return dict(zip(self._state_names, binding.get_outputs(), strict=True))

    def pctr(self, state: dict[str, Any], items: Tensors) -> np.ndarray:
        """The candidate half: the state is bound where it is, pCTR [U, C] comes here."""
        binding = self._candidate.io_binding()
        for name, value in state.items():
            binding.bind_ortvalue_input(name, value)
        for name, tensor in items.items():
            binding.bind_cpu_input(name, tensor)
        binding.bind_output("pctr", "cpu")
        _run(self._candidate, binding)
        pctr: np.ndarray = binding.get_outputs()[0].numpy()
        return pctr


def find_providers(device: Device) -> list[Provider]:
    """What to open a session with. Raises BundleError if this ONNX Runtime is not built for the device."""
    if device.kind == "cpu":
        return [_CPU]
    available = ort.get_available_providers()
    if _CUDA not in available:
        raise _refusal(
            device, f"onnxruntime has {', '.join(available)} here; it takes the package onnxruntime-gpu instead"
        )
    with redirect_stdout(sys.stderr):  # where it prints what it misses; the standard output is the log's
        ort.preload_dlls()  # CUDA and cuDNN from their Python packages, where they are installed as such
    # Memory grows by what the warm-up asks for rather than by powers of two. TF32, its default, keeps 10 bits of a
    # float's 23: the golden scores would not come out.
    options = {"device_id": device.index, "arena_extend_strategy": "kSameAsRequested", "use_tf32": 0}
    return [(_CUDA, options), _CPU]


def _open(bundle: Bundle, half: Half, *, device: Device, providers: list[Provider]) -> ort.InferenceSession:
    try:
        session = open_session(bundle.files, half, providers=providers)
    except BundleError as error:
        why = str(error).removeprefix(f"{half.file}: ")
        raise BundleError(half.file, f"on CTR_DEVICE={device}: {why}") from error
    if device.kind == "cuda" and _CUDA not in session.get_providers():
        raise _refusal(device, "onnxruntime found no such GPU, no driver, or not the CUDA and cuDNN it is built for")
    return session


def _refusal(device: Device, why: str) -> BundleError:
    return BundleError(MANIFEST, f"CTR_DEVICE={device} was asked for: {why} (docs/gpu.md)")


def _run(session: ort.InferenceSession, binding: Any) -> None:  # noqa: ANN401  # onnxruntime has no types
    try:
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()  # the halves are two sessions, each with a stream of its own
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise RuntimeFailure(f"{type(error).__name__}: {error}") from error
