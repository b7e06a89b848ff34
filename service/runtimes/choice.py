"""Which runtime executes a bundle: by the format it is in, the device, and what is installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle
from model.bundle.manifest import MANIFEST, Half
from service.runtimes.base import Runtime
from service.runtimes.bound import BoundHalves
from service.runtimes.device import Device, DeviceRuntime, Halves
from service.runtimes.explain import Explainer
from service.runtimes.native.library import BFLOAT16, FOLDER, PORTABLE, NativeUnavailable
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OneGraph, OnnxRuntime

Choice = Literal["auto", "onnx", "native"]
Precision = Literal["float32", "bfloat16"]


def choose_runtime(
    bundle: Bundle, *, choice: Choice = "auto", precision: Precision = "float32", folder: Path = FOLDER
) -> Runtime:
    """A runtime for a bundle of ONNX graphs.

    `auto` takes the kernel where it is built (in `folder`), knows the processor, and the bundle has weights for it. The
    portable path is not for `auto`: where there is no AVX2, nobody has measured that it wins. Only the kernel has
    `bfloat16`. Raises BundleError if what is asked for cannot be had, and naming the file if a file is at fault.
    """
    rounded = precision == "bfloat16"
    if choice == "onnx" or (choice == "auto" and not rounded and bundle.manifest.native is None):
        return OnnxRuntime(bundle)
    try:
        runtime = NativeRuntime(bundle, path=BFLOAT16 if rounded else None, folder=folder)
    except NativeUnavailable as error:
        if choice == "native" or rounded:
            raise BundleError(MANIFEST, f"the native runtime in {precision} was asked for: {error}") from error
        return OnnxRuntime(bundle)
    return OnnxRuntime(bundle) if choice == "auto" and runtime.path == PORTABLE else runtime


def choose_torchscript(bundle: Bundle) -> Runtime:
    """A runtime for a bundle of TorchScript halves, on the CPU. Raises BundleError if torch is not installed."""
    try:
        from service.runtimes.torchscript import TorchScriptRuntime  # noqa: PLC0415  # a serving install has no torch
    except ImportError as error:
        raise _no_torch() from error
    return TorchScriptRuntime(bundle)


def choose_on_gpu(bundle: Bundle, *, device: Device, max_candidates: int) -> Runtime:
    """A runtime on `device` for a bundle of either format. Raises BundleError if it cannot be had; never the CPU's."""
    return DeviceRuntime(_halves(bundle, device), bundle, max_candidates=max_candidates)


def choose_explainer(bundle: Bundle, runtime: Runtime) -> Explainer | None:
    """What explains the scores of `runtime`, always on the CPU; None where the bundle has no graph for its attention.

    Raises BundleError naming the file that is at fault.
    """
    half = bundle.manifest.explain
    if half is None and bundle.manifest.has_attention():
        return None
    if isinstance(runtime, DeviceRuntime):  # whose state is elsewhere
        runtime = OnnxRuntime(bundle) if bundle.manifest.export_format == "onnx" else choose_torchscript(bundle)
    return Explainer(runtime, None if half is None else _one(bundle, half))


def _one(bundle: Bundle, half: Half) -> Callable[[Tensors], Tensors]:
    if bundle.manifest.export_format == "onnx":
        return OneGraph(bundle, half).run
    try:
        from service.runtimes.torchscript import OneHalf  # noqa: PLC0415  # a serving install has no torch
    except ImportError as error:
        raise _no_torch() from error
    return OneHalf(bundle, half).run


def _halves(bundle: Bundle, device: Device) -> Halves:
    if bundle.manifest.export_format == "onnx":
        return BoundHalves(bundle, device)
    try:
        from service.runtimes.torchscript import TorchHalves  # noqa: PLC0415  # a serving install has no torch
    except ImportError as error:
        raise _no_torch() from error
    return TorchHalves(bundle, device)


def _no_torch() -> BundleError:
    return BundleError(MANIFEST, "export_format 'torchscript' needs torch, which the extra `torchscript` installs")
