"""A trained net -> the two graphs of a bundle, through the gate: same scores as eager, nothing frozen that must vary.

`export_halves` writes and checks; nothing reaches the disk before every check has passed (DESIGN 4 and 5).
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from model.bundle.encode import Tensors
from model.bundle.manifest import Half, TensorSpec
from model.nets import Net
from model.nets.augru import Augru
from model.nets.gru import Gru
from model.recurrent_onnx import augru_op, gru_op, translation_table

TOLERANCE = 1e-5  # largest difference in pCTR between eager and exported that passes the gate
_OPSET = 20


class ExportError(RuntimeError):
    """The exported graphs are not the net: scores differ, or a dimension that must vary is fixed."""


@dataclass(frozen=True, kw_only=True)
class ExportedHalves:
    """Both graphs as bytes, and what the manifest says about them."""

    user: Half
    candidate: Half
    files: Mapping[str, bytes]
    golden: Tensors  # the inputs that the gate was run on, and `pctr` [U, C] from the eager net


def export_halves(net: Net, request: Tensors, candidates: Tensors) -> ExportedHalves:
    """Export both halves. `request` [G users] and `candidates` [G, C, ...] become the golden rows.

    Raises ExportError if eager and exported pCTR differ by more than TOLERANCE, on all golden rows at once or user by
    user at their own history length, or if users, candidates or history length are fixed in a graph.
    """
    net = net.eval().cpu()
    golden_pctr = eager_pctr(net, request, candidates)
    user_graph, candidate_graph = _UserHalf(net).eval(), _CandidateHalf(net).eval()
    probes = [_probe(net, request, candidates, sizes) for sizes in ((2, 3, 4), (3, 3, 4), (2, 5, 4), (2, 3, 6))]
    with _operators(net):
        user = _export(user_graph, [p.request for p in probes], [p.state for p in probes], file="user.onnx")
        inputs, outputs = [{**p.state, **p.candidates} for p in probes], [p.outputs for p in probes]
        candidate = _export(candidate_graph, inputs, outputs, file="candidate.onnx")
    golden: Tensors = {**request, **candidates, "pctr": golden_pctr}
    files = {"user.onnx": user[1], "candidate.onnx": candidate[1]}
    exported = ExportedHalves(user=user[0], candidate=candidate[0], files=files, golden=golden)
    check_parity(exported)
    return exported


def eager_pctr(net: Net, request: Tensors, candidates: Tensors) -> np.ndarray:
    """pCTR [U, C] of the eager net."""
    with torch.inference_mode():
        return torch.sigmoid(net(_torch(request), _torch(candidates))).numpy()


def check_parity(exported: ExportedHalves) -> None:
    """Replay the golden rows: all at once, then one user and one candidate at a time without the padding."""
    sessions = [_session(exported.files[half.file]) for half in (exported.user, exported.candidate)]
    golden = exported.golden
    request = {spec.name: golden[spec.name] for spec in exported.user.inputs}
    candidates = {spec.name: golden[spec.name] for spec in exported.candidate.inputs if spec.name in golden}
    _compare(_run(sessions, request, candidates), golden["pctr"], rows="all golden rows")
    for u in range(len(golden["pctr"])):
        one = {name: tensor[u : u + 1] for name, tensor in request.items()}
        one["history"] = one["history"][:, : max(int(one["history_len"][0]), 1)]
        first = {name: tensor[u : u + 1, :1] for name, tensor in candidates.items()}
        _compare(_run(sessions, one, first), golden["pctr"][u : u + 1, :1], rows=f"golden user {u} alone")


class _UserHalf(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.net.encode_user(tensors).values())


class _CandidateHalf(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logit_UC = self.net.score(tensors, tensors)
        return logit_UC, torch.sigmoid(logit_UC)


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """The tensors of both halves at one choice of sizes; comparing probes tells which axes follow which size."""

    request: dict[str, Tensor]
    state: dict[str, Tensor]
    candidates: dict[str, Tensor]
    outputs: dict[str, Tensor]


def _probe(net: Net, request: Tensors, candidates: Tensors, sizes: tuple[int, int, int]) -> _Probe:
    users, length, count = sizes
    request_ = {n: _sized(t, (users, length) if n == "history" else (users,)) for n, t in request.items()}
    candidates_ = {n: _sized(t, (users, count)) for n, t in candidates.items()}
    with torch.no_grad():
        state = net.encode_user(request_)
        logit_UC = net.score(state, candidates_)
    return _Probe(
        request=request_,
        state={name: tensor.clone() for name, tensor in state.items()},
        candidates=candidates_,
        outputs={"logit": logit_UC, "pctr": torch.sigmoid(logit_UC)},
    )


def _sized(tensor: np.ndarray, sizes: tuple[int, ...]) -> Tensor:
    """`tensor` cycled or cut to `sizes` along its first axes."""
    for axis, size in enumerate(sizes):
        tensor = np.take(tensor, np.arange(size) % tensor.shape[axis], axis=axis)
    return torch.from_numpy(np.ascontiguousarray(tensor))


def _export(
    graph: nn.Module, inputs: list[dict[str, Tensor]], outputs: list[dict[str, Tensor]], *, file: str
) -> tuple[Half, bytes]:
    specs_in, specs_out = _specs(inputs), _specs(outputs)
    dynamic = {s.name: {axis: d for axis, d in enumerate(s.shape) if isinstance(d, str)} for s in specs_in}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            kwargs={"tensors": inputs[0]},
            dynamo=True,
            dynamic_shapes={"tensors": dynamic},
            input_names=[spec.name for spec in specs_in],
            output_names=[spec.name for spec in specs_out],
            custom_translation_table=translation_table(),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None  # it is None only for the old exporter
    raw = _plain(program.model_proto)
    refuse_frozen(raw, (*specs_in, *specs_out), file=file)
    return Half(file=file, inputs=specs_in, outputs=specs_out), raw


def _specs(probes: list[dict[str, Tensor]]) -> tuple[TensorSpec, ...]:
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


def _plain(proto: onnx.ModelProto) -> bytes:
    """The graph without the exporter's notes: they name this machine's paths and change from run to run."""
    proto.ClearField("metadata_props")
    _clear_notes(proto.graph)
    buffer = io.BytesIO()
    onnx.save(proto, buffer)
    return buffer.getvalue()


def _clear_notes(graph: onnx.GraphProto) -> None:
    for noted in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _clear_notes(attribute.g)


def refuse_frozen(raw: bytes, specs: tuple[TensorSpec, ...], *, file: str) -> None:
    """Raise ExportError if a dimension that must vary is fixed in the file.

    The exporter fixes dimensions silently, so the file's own shapes are what counts.
    """
    session = _session(raw)
    real = {tensor.name: tensor.shape for tensor in [*session.get_inputs(), *session.get_outputs()]}
    for spec in specs:
        found = real.get(spec.name)
        if found is None:
            raise ExportError(f"{file}: {spec.name} is not in the graph")
        for axis, dimension in enumerate(spec.shape):
            if isinstance(dimension, str) and isinstance(found[axis], int):
                raise ExportError(f"{file}: {spec.name} has {dimension} fixed at {found[axis]} in axis {axis}")


def _session(raw: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def _run(sessions: list[onnxruntime.InferenceSession], request: Tensors, candidates: Tensors) -> np.ndarray:
    names = [output.name for output in sessions[0].get_outputs()]
    state = dict(zip(names, sessions[0].run(None, request), strict=True))
    pctr: np.ndarray = sessions[1].run(["pctr"], {**state, **candidates})[0]
    return pctr


def _compare(found: np.ndarray, expected: np.ndarray, *, rows: str) -> None:
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # not ">", so that NaN is refused
        raise ExportError(f"{rows}: eager and exported pCTR differ by {difference:.2e}, allowed {TOLERANCE:.0e}")


def _torch(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}


@contextmanager
def _operators(net: Net) -> Iterator[None]:
    """Let GRU and AUGRU be one operator each while the graph is traced."""
    layers = [layer for layer in net.modules() if isinstance(layer, Gru | Augru)]
    before = [layer.recurrence for layer in layers]
    for layer in layers:
        layer.recurrence = gru_op if isinstance(layer, Gru) else augru_op
    try:
        yield
    finally:
        for layer, recurrence in zip(layers, before, strict=True):
            layer.recurrence = recurrence


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs about packages that it does not need and warns about its own internals; the gate judges."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
