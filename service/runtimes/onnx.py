"""ONNX Runtime on the CPU: one thread per call, as many calls at once as there are compute threads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from model.bundle.arrays import Content
from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_npy
from model.bundle.manifest import Half, TensorSpec
from service.runtimes.base import FLOAT32_TOLERANCE, BatchLimits, RuntimeFailure

Provider = str | tuple[str, dict[str, Any]]  # of onnxruntime, with its options

_DTYPES = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(bool)": "bool", "tensor(double)": "float64"}
_CPU = "CPUExecutionProvider"
STATE_PREFIX = "state_"  # of the tensors that the user half hands to the candidate half
# A net whose candidates run in tiles anyway loses nothing by being cut; one that does not pays for every cut.
# Several users share a call only where that saved CPU time: benchmarks/results/joining_2cores_202611.md.
_TILED = BatchLimits(smallest=48, largest=128, users=8, joined=80)
_WHOLE = BatchLimits(smallest=128, largest=256, users=8, joined=160)
_ERRORS_ONLY = 3  # onnxruntime's log severity


class OneGraph:
    """One graph of a bundle."""

    def __init__(self, bundle: Bundle, half: Half) -> None:
        """Load it. Raises BundleError if it cannot be read or is not what the manifest says."""
        self._session = open_session(bundle.files, half)
        self._inputs, self._outputs = [spec.name for spec in half.inputs], [spec.name for spec in half.outputs]

    def run(self, tensors: Tensors) -> Tensors:
        """Its outputs by name. Tensors that it does not take are ignored. Raises RuntimeFailure."""
        return _run(self._session, {name: tensors[name] for name in self._inputs}, self._outputs)


class OnnxRuntime:
    """The two graphs of a bundle. Candidates run in tiles whose activations stay in the CPU's cache."""

    name = "onnx"
    tolerance = FLOAT32_TOLERANCE

    def __init__(self, bundle: Bundle) -> None:
        """Load both graphs. Raises BundleError if one cannot be read or is not what the manifest says."""
        manifest = bundle.manifest
        self._user = OneGraph(bundle, manifest.user_half)
        self._candidate = open_session(bundle.files, manifest.candidate_half)
        self._item_inputs = [s.name for s in manifest.candidate_half.inputs if not s.name.startswith(STATE_PREFIX)]
        self._output_names = [spec.name for spec in manifest.candidate_half.outputs]
        self._tile = manifest.candidate_tile
        self.limits = _TILED if self._tile else _WHOLE

    def encode_user(self, request: Tensors) -> Tensors:
        """The user half. Tensors that its graph does not take are ignored."""
        return self._user.run(request)

    def score(self, state: Tensors, candidates: Tensors) -> Tensors:
        """The candidate half, tile by tile, joined into one array per output."""
        items = {name: candidates[name] for name in self._item_inputs}
        count = next(iter(items.values())).shape[1]
        step = self._tile or count
        parts = [
            _run(self._candidate, {**state, **_cut(items, start, start + step)}, self._output_names)
            for start in range(0, count, step)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in self._output_names}


def _cut(items: Tensors, start: int, end: int) -> Tensors:
    return {name: np.ascontiguousarray(tensor[:, start:end]) for name, tensor in items.items()}


def _run(session: ort.InferenceSession, feed: Tensors, names: list[str]) -> Tensors:
    try:
        return dict(zip(names, session.run(names, feed), strict=True))
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise RuntimeFailure(f"{type(error).__name__}: {error}") from error


def open_session(
    files: Mapping[str, Content], half: Half, *, providers: Sequence[Provider] = (_CPU,)
) -> ort.InferenceSession:
    """A session that computes with one thread of the caller's. Raises BundleError as the runtimes here do."""
    if half.file not in files:
        raise BundleError(half.file, "not listed in the manifest")
    tables = {name: read_npy(files, str(path)) for name, path in half.tables.items()}
    options = _options()
    values = {name: ort.OrtValue.ortvalue_from_numpy(table) for name, table in tables.items()}
    try:
        options.add_external_initializers(list(values), list(values.values()))  # what the graph names is here
        if list(providers) == [_CPU]:
            for name, value in values.items():  # and is used where it is; else each session copies every table
                options.add_initializer(name, value)
        session = ort.InferenceSession(bytes(files[half.file]), options, providers=list(providers))
        session.tables = tables, values  # which it reads, so they must live as long
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise BundleError(half.file, f"onnxruntime cannot load it: {error}") from error
    _check(half.file, "input", found=session.get_inputs(), expected=half.inputs)
    _check(half.file, "output", found=session.get_outputs(), expected=half.outputs)
    return session


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # parallel over requests instead: no barrier, no pool beside ours
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A memory pattern is planned and kept per combination of input shapes, and L and C vary with every request. Of the
    # four combinations with the arena, arena without patterns was the fastest for DIN and DIEN at mixed shapes.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    return options


def _check(file: str, kind: str, *, found: list[Any], expected: tuple[TensorSpec, ...]) -> None:
    """Compare a graph's real tensors with the manifest. `Any`: onnxruntime's NodeArg has no types of its own."""
    real = {node.name: (_DTYPES.get(node.type, node.type), tuple(node.shape)) for node in found}
    if sorted(real) != sorted(spec.name for spec in expected):
        raise BundleError(file, f"its {kind}s are {sorted(real)}, the manifest says {[s.name for s in expected]}")
    for spec in expected:
        dtype, shape = real[spec.name]
        if dtype != spec.dtype or not _fits(shape, spec.shape):
            wanted = f"{spec.dtype} {list(spec.shape)}"
            raise BundleError(file, f"{kind} {spec.name} is {dtype} {list(shape)}, the manifest says {wanted}")


def _fits(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """A dimension that may vary in the manifest is not fixed in the graph, and a fixed one has the same length."""
    if len(found) != len(expected):
        return False
    return all(not isinstance(real, int) or real == wanted for real, wanted in zip(found, expected, strict=True))
