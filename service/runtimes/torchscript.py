"""TorchScript halves, for whoever cannot use ONNX Runtime. The only file of the service that imports torch.

Nothing is frozen or optimised here: `torch.jit.freeze` and `optimize_for_inference` fold Dice wrongly by default, and
the export has done what is right (docs/gpu.md). TorchScript is deprecated in torch, which says so when it loads one;
that warning is silenced here and no other.
"""

import io
import warnings
from typing import Any

import numpy as np
import torch

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle
from model.bundle.manifest import MANIFEST, Half, TensorSpec
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits, RuntimeFailure
from service.runtimes.device import Device

TorchTensors = dict[str, torch.Tensor]

_TRIED = {"U": 2, "L": 3, "C": 4}  # sizes of the trial run that checks a half against the manifest


class TorchHalves:
    """The two halves of a bundle on one device, as `Halves`."""

    def __init__(self, bundle: Bundle, device: Device) -> None:
        """Load both. Raises BundleError if the device cannot be had, or naming the file that is at fault."""
        _check_device(device)
        # Once is enough: threads that start later begin with it. Parallel over requests instead.
        torch.set_num_threads(1)
        manifest = bundle.manifest
        self.name = f"torchscript-{device}"
        self._device = torch.device(device.kind, device.index)
        self._user = _load(bundle, manifest.user_half, self._device)
        self._candidate = _load(bundle, manifest.candidate_half, self._device)
        self._takes = [spec.name for spec in manifest.user_half.inputs]

    def encode(self, request: Tensors) -> dict[str, Any]:
        """The user half: tensors by name, on the device. Tensors that it does not take are ignored."""
        return _run(self._user, self._there({name: request[name] for name in self._takes}))

    def outputs(self, state: dict[str, Any], items: Tensors) -> TorchTensors:
        """The candidate half: its outputs by name, on the device."""
        return _run(self._candidate, {**state, **self._there(items)})

    def pctr(self, state: dict[str, Any], items: Tensors) -> np.ndarray:
        """The candidate half: pCTR [U, C], here."""
        pctr: np.ndarray = self.outputs(state, items)["pctr"].cpu().numpy()
        return pctr

    def _there(self, tensors: Tensors) -> TorchTensors:
        return {name: _tensor(tensor).to(self._device) for name, tensor in tensors.items()}


class TorchScriptRuntime:
    """The halves on the CPU, as `Runtime`: one thread per call, candidates in tiles that stay in the CPU's cache."""

    name = "torchscript"
    tolerance = FLOAT32_TOLERANCE

    def __init__(self, bundle: Bundle) -> None:
        """Load both halves. Raises BundleError if one cannot be read or is not what the manifest says."""
        self._halves = TorchHalves(bundle, Device())
        self._tile = bundle.manifest.candidate_tile
        self.limits = BatchLimits(smallest=self._tile or 128, largest=256)

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half. Tensors that it does not take are ignored."""
        return {name: tensor.numpy() for name, tensor in self._halves.encode(request).items()}

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half, tile by tile: `logit` and `pctr` [U, C]."""
        held = {name: _tensor(tensor) for name, tensor in state.items()}
        count = next(iter(candidates.values())).shape[1]
        step = self._tile or count
        parts = [
            self._halves.outputs(held, {name: tensor[:, at : at + step] for name, tensor in candidates.items()})
            for at in range(0, count, step)
        ]
        return {name: np.concatenate([part[name].numpy() for part in parts], axis=1) for name in parts[0]}


class OneHalf:
    """One half of a bundle on the CPU, arrays in and out."""

    def __init__(self, bundle: Bundle, half: Half) -> None:
        """Load it. Raises BundleError if it cannot be read or is not what the manifest says."""
        self._graph = _load(bundle, half, torch.device("cpu"))
        self._takes = [spec.name for spec in half.inputs]

    def run(self, tensors: Tensors) -> Tensors:
        """Its outputs by name. Tensors that it does not take are ignored. Raises RuntimeFailure."""
        found = _run(self._graph, {name: _tensor(tensors[name]) for name in self._takes})
        return {name: tensor.numpy() for name, tensor in found.items()}


def _check_device(device: Device) -> None:
    """Raise BundleError if torch cannot use the device."""
    if device.kind == "cpu" or (torch.cuda.is_available() and device.index < torch.cuda.device_count()):
        return
    found = f"torch {torch.__version__} finds {torch.cuda.device_count()} GPUs"
    why = f"{found}; it takes a driver, and a build of torch with CUDA"
    raise BundleError(MANIFEST, f"CTR_DEVICE={device} was asked for: {why} (docs/gpu.md)")


def _load(bundle: Bundle, half: Half, device: torch.device) -> torch.jit.ScriptModule:
    """A half that was run once and gave what the manifest says."""
    if half.file not in bundle.files:
        raise BundleError(half.file, "not listed in the manifest")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated", category=DeprecationWarning)
            graph: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(bundle.files[half.file]), map_location=device)  # type: ignore[no-untyped-call]  # torch's
    except (RuntimeError, ValueError, EOFError) as error:
        raise BundleError(half.file, f"torch cannot load it: {_first_line(error)}") from error
    _try(graph, half, device)
    return graph


def _try(graph: torch.jit.ScriptModule, half: Half, device: torch.device) -> None:
    """Run a half on zeros of the manifest's shapes, as the archive has no list of its tensors. Raises BundleError."""
    try:
        found = _run(graph, {spec.name: _zeros(spec, device) for spec in half.inputs})
    except RuntimeFailure as error:
        raise BundleError(half.file, f"cannot be run on the manifest's tensors: {error}") from error
    expected = {spec.name: _zeros(spec, device) for spec in half.outputs}
    if found.keys() != expected.keys():
        raise BundleError(half.file, f"its outputs are {sorted(found)}, the manifest says {sorted(expected)}")
    for name, wanted in expected.items():
        real = found[name]
        if (real.dtype, real.shape) != (wanted.dtype, wanted.shape):
            shapes = f"{real.dtype} {list(real.shape)}, the manifest says {wanted.dtype} {list(wanted.shape)}"
            raise BundleError(half.file, f"output {name} is {shapes}")


def _zeros(spec: TensorSpec, device: torch.device) -> torch.Tensor:
    shape = [_TRIED[size] if isinstance(size, str) else size for size in spec.shape]
    return _tensor(np.zeros(shape, dtype=spec.dtype)).to(device)


def _run(graph: torch.jit.ScriptModule, tensors: TorchTensors) -> TorchTensors:
    try:
        with torch.inference_mode():
            found: TorchTensors = graph(tensors)
            return found
    except Exception as error:  # RuntimeError, and torch.jit.Error which is its own
        raise RuntimeFailure(f"{type(error).__name__}: {_first_line(error)}") from error


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _first_line(error: Exception) -> str:
    """torch appends its stack, which names this machine's paths; the last line is the reason."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__
