"""Explains scores offline, from a run's eager net or a bundle's graphs, in the form of POST /score's `explanation`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import BundleError
from model.bundle.explanation import Floats, Told, explanation, without_history
from model.bundle.folder import Bundle, read_bundle
from model.bundle.manifest import MANIFEST, Half
from model.explained import eager_explanation
from model.halves import to_torch
from model.nets.calibrated import CalibratedSigmoid
from model.onnx_tables import open_half, run_half
from model.request import OfflineRequest, encode_request
from model.run_folder import TrainedRun, load_run

Tell = Callable[[Tensors, Tensors], Told]  # request and candidates of one user -> what the net tells


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where explanations come from."""

    name: str
    encoder: Encoder
    tell: Tell


def open_source(path: Path) -> Source:
    """A run's folder, or a bundle's or a pointer to one. Raises ConfigError or BundleError naming the file at fault."""
    if (path / "config.json").is_file():  # a bundle may have weights too
        run = load_run(path)
        return Source(name=f"run {run.config['name']}", encoder=run.encoder, tell=lambda *t: _tell_eager(run, *t))
    bundle = read_bundle(path)
    graphs = _Graphs(bundle)
    return Source(name=f"{bundle.manifest.name} {bundle.manifest.version}", encoder=bundle.encoder, tell=graphs.tell)


def explain_request(source: Source, request: OfflineRequest, *, now_ms: int) -> dict[str, Any]:
    """`explanation` of the answer that the request would get now. `Any`: as JSON has it. Raises EncodeError."""
    seen = encode_request(request, source.encoder, now_ms=now_ms)
    told = source.tell(seen.user, {name: tensor[None] for name, tensor in seen.items.items()})
    if request.top_k is not None:
        best = np.argsort(-told.pctr, kind="stable")[: request.top_k]
        seen, told = seen.of(best), told.of(best)
    return explanation(source.encoder, seen, told)


def _tell_eager(run: TrainedRun, request: Tensors, candidates: Tensors) -> Told:
    net, items = run.net.eval(), to_torch(candidates)
    with torch.inference_mode():
        logit, without = (
            net.score(net.encode_user(to_torch(user)), items)[0] for user in (request, without_history(request))
        )
        pctr = CalibratedSigmoid(run.calibration)(logit)
    found = eager_explanation(net, request, candidates)
    return _told(found, logit=logit.numpy(), without=without.numpy(), pctr=pctr.numpy())


class _Graphs:
    """A bundle's graphs, on the CPU."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError for a bundle that has no ONNX graphs, or none that tells its net's attention."""
        manifest = bundle.manifest
        if manifest.export_format != "onnx":
            raise BundleError(MANIFEST, f"export_format {manifest.export_format!r} cannot be explained, allowed: onnx")
        if manifest.explain is None and manifest.has_attention():
            raise BundleError(MANIFEST, "has no graph that tells the attention; export the run again")

        def opened(half: Half) -> tuple[Half, onnxruntime.InferenceSession]:
            return half, open_half(bundle.files, half)

        self._user, self._candidate = opened(manifest.user_half), opened(manifest.candidate_half)
        self._explain = None if manifest.explain is None else opened(manifest.explain)

    def tell(self, request: Tensors, candidates: Tensors) -> Told:
        """What the graphs tell of one user."""
        state, empty = run_half(*self._user, request), run_half(*self._user, without_history(request))
        scored = run_half(*self._candidate, {**state, **candidates})
        without = run_half(*self._candidate, {**empty, **candidates})["logit"][0]
        found = run_half(*self._explain, {**state, **candidates}) if self._explain else {}
        return _told(found, logit=scored["logit"][0], without=without, pctr=scored["pctr"][0])


def _told(found: Tensors, *, logit: Floats, without: Floats, pctr: Floats) -> Told:
    """Of the first user."""
    attention, update = (found[name][0] if name in found else None for name in ("attention", "update"))
    return Told(logit=logit, logit_without_history=without, pctr=pctr, attention=attention, update=update)
