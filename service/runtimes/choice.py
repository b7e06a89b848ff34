"""Which runtime executes a bundle: the native kernel where it can, ONNX Runtime everywhere else."""

from pathlib import Path
from typing import Literal

from model.bundle.errors import BundleError
from model.bundle.folder import Bundle
from model.bundle.manifest import MANIFEST
from service.runtimes.base import Runtime
from service.runtimes.native.library import FOLDER, PORTABLE, NativeUnavailable
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OnnxRuntime

Choice = Literal["auto", "onnx", "native"]


def choose_runtime(bundle: Bundle, *, choice: Choice = "auto", folder: Path = FOLDER) -> Runtime:
    """A runtime for a bundle of ONNX graphs.

    `auto` takes the kernel where it is built (in `folder`), knows the processor, and the bundle has weights for it. The
    portable path is not for `auto`: where there is no AVX2, nobody has measured that it wins. Raises BundleError if
    `native` is asked for and cannot be had, and naming the file if a file is at fault.
    """
    if choice == "onnx" or (choice == "auto" and bundle.manifest.native is None):
        return OnnxRuntime(bundle)
    try:
        runtime = NativeRuntime(bundle, folder=folder)
    except NativeUnavailable as error:
        if choice == "native":
            raise BundleError(MANIFEST, f"the native runtime was asked for: {error}") from error
        return OnnxRuntime(bundle)
    return OnnxRuntime(bundle) if choice == "auto" and runtime.path == PORTABLE else runtime
