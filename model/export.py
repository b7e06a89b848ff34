"""A trained net -> the graphs of a bundle, through the gate: same scores as eager, nothing frozen that must vary.

`export_halves` writes and checks; nothing reaches the disk before every check has passed (DESIGN 4 and 5).
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from model.bundle.calibration import UNCALIBRATED, Calibration
from model.bundle.encode import Tensors
from model.bundle.manifest import Half, TensorSpec
from model.explained import eager_explanation, explain_probes, explained_half
from model.halves import (
    PROBES,
    ExportedHalves,
    ExportError,
    Probe,
    eager_pctr,
    probe,
    replaced_recurrences,
    replay_golden,
    tensor_specs,
)
from model.nets import Net
from model.nets.calibrated import CalibratedSigmoid
from model.onnx_tables import open_graph, open_half, run_half, take_out_tables
from model.recurrent_onnx import translation_table
from model.recurrent_ops import OPERATORS, UPDATE_OPERATORS

_OPSET = 20


def export_halves(
    net: Net, request: Tensors, candidates: Tensors, *, calibration: Calibration = UNCALIBRATED
) -> ExportedHalves:
    """Export both halves, and what explains scores. `request` [G users], `candidates` [G, C, ...]: the golden rows.

    `pctr` is calibrated, `logit` is as the net gives it.

    Raises ExportError if eager and exported differ by more than TOLERANCE, on all golden rows at once or user by user
    at their own history length, or if users, candidates or history length are fixed in a graph.
    """
    net = net.eval().cpu()
    golden_pctr = eager_pctr(net, request, candidates, calibration=calibration)
    user_graph, candidate_graph = _UserHalf(net).eval(), _CandidateHalf(net, calibration).eval()
    probes = [probe(net, request, candidates, sizes, calibration=calibration) for sizes in PROBES]
    with replaced_recurrences(net, OPERATORS):  # one operator each while the graph is traced
        user = _export(user_graph, [p.request for p in probes], [p.state for p in probes], file="user.onnx")
        inputs, outputs = [{**p.state, **p.candidates} for p in probes], [p.outputs for p in probes]
        candidate = _export(candidate_graph, inputs, outputs, file="candidate.onnx")
    explained = _export_explained(net, probes)
    exported = ExportedHalves(
        user=user[0],
        candidate=candidate[0],
        explain=explained[0],
        files={**user[1], **candidate[1], **explained[1]},
        golden={**request, **candidates, "pctr": golden_pctr, **eager_explanation(net, request, candidates)},
    )
    check_parity(exported)
    return exported


def check_parity(exported: ExportedHalves) -> None:
    """Replay the golden rows through the graphs. Raises ExportError where they do not give what the eager net does."""
    halves = [exported.user, exported.candidate, *([exported.explain] if exported.explain else [])]
    graphs = [(half, open_half(exported.files, half)) for half in halves]
    replay_golden(exported, lambda request, candidates: _run(graphs, {**request, **candidates}))


def _export_explained(net: Net, probes: list[Probe]) -> tuple[Half | None, dict[str, bytes]]:
    """The graph that tells the attention; none of a net without."""
    inputs, outputs = explain_probes(net, probes)
    if not inputs:
        return None, {}
    with replaced_recurrences(net, UPDATE_OPERATORS):
        return _export(explained_half(net), inputs, outputs, file="explain.onnx")


class _UserHalf(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.net.encode_user(tensors).values())


class _CandidateHalf(nn.Module):
    def __init__(self, net: Net, calibration: Calibration) -> None:
        super().__init__()
        self.net, self.pctr = net, CalibratedSigmoid(calibration)

    def forward(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logit_UC = self.net.score(tensors, tensors)
        return logit_UC, self.pctr(logit_UC)


def _export(
    graph: nn.Module, inputs: list[dict[str, Tensor]], outputs: list[dict[str, Tensor]], *, file: str
) -> tuple[Half, dict[str, bytes]]:
    specs_in, specs_out = tensor_specs(inputs), tensor_specs(outputs)
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
    refuse_frozen(open_graph(raw, {}), (*specs_in, *specs_out), file=file)
    graph_raw, tables, files = take_out_tables(raw)
    return Half(file=file, inputs=specs_in, outputs=specs_out, tables=tables), {file: graph_raw, **files}


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


def refuse_frozen(session: onnxruntime.InferenceSession, specs: tuple[TensorSpec, ...], *, file: str) -> None:
    """Raise ExportError if a dimension that must vary is fixed in the file.

    The exporter fixes dimensions silently, so the file's own shapes are what counts.
    """
    real = {tensor.name: tensor.shape for tensor in [*session.get_inputs(), *session.get_outputs()]}
    for spec in specs:
        found = real.get(spec.name)
        if found is None:
            raise ExportError(f"{file}: {spec.name} is not in the graph")
        for axis, dimension in enumerate(spec.shape):
            if isinstance(dimension, str) and isinstance(found[axis], int):
                raise ExportError(f"{file}: {spec.name} has {dimension} fixed at {found[axis]} in axis {axis}")


def _run(graphs: list[tuple[Half, onnxruntime.InferenceSession]], tensors: Tensors) -> Tensors:
    """`tensors` and the outputs of every graph, each of which reads what those before it gave."""
    for half, session in graphs:
        tensors = {**tensors, **run_half(half, session, tensors)}
    return tensors


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
