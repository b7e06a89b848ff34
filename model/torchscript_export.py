"""A trained net -> `user.ts` and `candidate.ts`, through the same gate as the ONNX graphs.

Each half is traced, because the nets look tables up by name, which torch.jit.script cannot. A trace unrolls Python
loops and keeps Python integers, so the recurrences are scripted functions, whose loops stay loops, and nothing else may
depend on a size: `_refuse_frozen` runs every half at other sizes. Shapes: U users, C candidates, L history, H hidden,
G = 3H the gates (r, u, c).

TorchScript is deprecated in torch and says so at every call; the calls here silence that and nothing else.
"""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model.bundle.calibration import UNCALIBRATED, Calibration
from model.bundle.encode import Tensors
from model.bundle.manifest import Half
from model.explained import eager_explanation, explain_probes, explained_half
from model.halves import (
    PROBES,
    ExportedHalves,
    ExportError,
    compare,
    eager_pctr,
    probe,
    replaced_recurrences,
    replay_golden,
    tensor_specs,
    to_torch,
)
from model.nets import Net
from model.nets.calibrated import CalibratedSigmoid
from model.torchscript_loops import LOOPS, UPDATE_LOOPS, Loops

_NAMES = {"user": "user.ts", "candidate": "candidate.ts", "explain": "explain.ts"}
_SIZES = ((1, 1, 1), (3, 2, 50), (8, 40, 7), (1, 100, 500))  # users, history and candidates that the gate tries
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in an archive, so that equal halves are equal bytes


def export_torchscript(
    net: Net, request: Tensors, candidates: Tensors, *, calibration: Calibration = UNCALIBRATED
) -> ExportedHalves:
    """Export both halves, and what explains scores. `request` [G users], `candidates` [G, C, ...]: the golden rows.

    `pctr` is calibrated, `logit` is as the net gives it.

    Raises ExportError if what is eager and what is exported differ by more than TOLERANCE, on the golden rows or at
    other numbers of users, candidates and behaviors, or if a half cannot be run at those.
    """
    net = net.eval().cpu()
    pctr = eager_pctr(net, request, candidates, calibration=calibration)
    golden: Tensors = {**request, **candidates, "pctr": pctr, **eager_explanation(net, request, candidates)}
    probes = [probe(net, request, candidates, sizes, calibration=calibration) for sizes in PROBES]
    items = [{**p.state, **p.candidates} for p in probes]
    told = explain_probes(net, probes)
    with deprecated(), torch.no_grad(), _loops_that_stay(net, LOOPS):
        candidate = _CandidateHalf(net, calibration)
        graphs = {"user": _trace(_UserHalf(net), probes[0].request), "candidate": _trace(candidate, items[0])}
    if told[0]:
        with deprecated(), torch.no_grad(), _loops_that_stay(net, {**LOOPS, **UPDATE_LOOPS}):
            graphs["explain"] = _trace(explained_half(net), told[0][0])
    with deprecated():
        files = {_NAMES[half]: _plain(graph) for half, graph in graphs.items()}
    exported = ExportedHalves(
        user=_half("user", [p.request for p in probes], [p.state for p in probes]),
        candidate=_half("candidate", items, [p.outputs for p in probes]),
        explain=_half("explain", *told) if told[0] else None,
        files=files,
        golden=golden,
    )
    _refuse_frozen(exported, net, calibration)
    check_parity(exported)
    return exported


def check_parity(exported: ExportedHalves) -> None:
    """Replay the golden rows through the saved halves. Raises ExportError where they are not the eager net."""
    graphs = _load(exported)
    replay_golden(exported, lambda request, candidates: _run(graphs, request, candidates))


@contextmanager
def deprecated() -> Iterator[None]:
    """Silence what torch says about TorchScript's future (docs/training.md); other warnings pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
        yield


class _UserHalf(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.net.encode_user(tensors)


class _CandidateHalf(nn.Module):
    def __init__(self, net: Net, calibration: Calibration) -> None:
        super().__init__()
        self.net, self.pctr = net, CalibratedSigmoid(calibration)

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        logit_UC = self.net.score(tensors, tensors)
        return {"logit": logit_UC, "pctr": self.pctr(logit_UC)}


@contextmanager
def _loops_that_stay(net: Net, loops: Loops) -> Iterator[None]:
    scripted = {eager: torch.jit.script(loop) for eager, loop in loops.items()}
    with replaced_recurrences(net, scripted):
        yield


def _trace(half: nn.Module, example: dict[str, Tensor]) -> torch.jit.ScriptModule:
    # strict=False allows a dict as the result, whose keys are the same whatever comes in. The gate checks more than
    # the tracer's own second run would.
    traced = torch.jit.trace(half.eval(), (example,), strict=False, check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    # Drops the tables of the other half. Numerics stay as traced: torch's own choice folds Dice wrongly (docs/gpu.md).
    frozen: torch.jit.ScriptModule = torch.jit.freeze(traced, optimize_numerics=False)
    return frozen


def _plain(graph: torch.jit.ScriptModule) -> bytes:
    """The archive without its notes: they name this machine's paths, and the sizes of the example."""
    saved, plain = io.BytesIO(), io.BytesIO()
    torch.jit.save(graph, saved)
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(plain, "w") as stripped:
        for name in archive.namelist():
            if not name.endswith(".debug_pkl") and "/traced_inputs" not in name:
                stripped.writestr(zipfile.ZipInfo(name, _EPOCH), archive.read(name))
    return plain.getvalue()


def _half(half: str, inputs: list[dict[str, Tensor]], outputs: list[dict[str, Tensor]]) -> Half:
    return Half(file=_NAMES[half], inputs=tensor_specs(inputs), outputs=tensor_specs(outputs))


def _load(exported: ExportedHalves) -> list[tuple[Half, torch.jit.ScriptModule]]:
    halves = [exported.user, exported.candidate, *([exported.explain] if exported.explain else [])]
    with deprecated():
        files = [io.BytesIO(exported.files[half.file]) for half in halves]
        return [(half, torch.jit.load(file, map_location="cpu")) for half, file in zip(halves, files, strict=True)]  # type: ignore[no-untyped-call]  # torch's


def _run(graphs: list[tuple[Half, torch.jit.ScriptModule]], request: Tensors, candidates: Tensors) -> Tensors:
    """The inputs and the outputs of every half, each of which reads what those before it gave."""
    tensors = to_torch({**request, **candidates})
    with torch.inference_mode():
        for half, graph in graphs:
            tensors = {**tensors, **graph({spec.name: tensors[spec.name] for spec in half.inputs})}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _refuse_frozen(exported: ExportedHalves, net: Net, calibration: Calibration) -> None:
    """Raise ExportError if the halves cannot be run, or score differently, at other sizes than the example's."""
    golden, graphs = exported.golden, _load(exported)
    items = {name: tensor for name, tensor in golden.items() if name.startswith("item_")}
    request = {spec.name: golden[spec.name] for spec in exported.user.inputs}
    for sizes in _SIZES:
        at = "{} users, {} behaviors, {} candidates".format(*sizes)
        tried = probe(net, request, items, sizes, calibration=calibration)
        told = explain_probes(net, [tried])[1]
        inputs = [{name: tensor.numpy() for name, tensor in half.items()} for half in (tried.request, tried.candidates)]
        try:
            found = _run(graphs, *inputs)
        except RuntimeError as error:
            reason = str(error).strip().rpartition("\n")[2]  # above it is the graph's own stack
            raise ExportError(f"{at}: cannot be run, a size is fixed: {reason}") from error
        expected = {"pctr": tried.outputs["pctr"], **(told[0] if told else {})}
        compare(found, {name: tensor.numpy() for name, tensor in expected.items()}, rows=at)
