"""A bundle on disk -> something that may score: verified, replayed, warm. Refuses rather than guesses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import GOLDEN, Bundle, read_bundle
from model.bundle.manifest import MANIFEST, Half, Manifest
from model.bundle.records import make_behaviors
from model.bundle.signature import ManifestCheck
from service.runtimes.base import Runtime, RuntimeFailure
from service.runtimes.choice import choose_explainer, choose_runtime, choose_torchscript
from service.runtimes.explain import Explainer
from service.runtimes.shapes import Shape

Runtimes = Mapping[str, Callable[[Bundle], Runtime]]  # by Manifest.export_format

REPORT = "report.json"
RUNTIMES: Runtimes = {"onnx": choose_runtime, "torchscript": choose_torchscript}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A bundle that passed every check. Its files and golden rows are not kept in memory."""

    manifest: Manifest
    encoder: Encoder
    runtime: Runtime
    prior_ctr: NDArray[np.float32]  # by item index
    explainer: Explainer | None = None  # None: the bundle cannot, or shall not
    report: bytes | None = None  # `report.json`, of the training


def load(
    path: Path,
    *,
    max_candidates: int,
    runtimes: Runtimes = RUNTIMES,
    explain: bool = True,
    check: ManifestCheck | None = None,
) -> Loaded:
    """Read, verify, replay the golden rows and warm up for requests of up to `max_candidates`.

    With `explain` the graph that tells the attention is loaded too, where there is one. `check` sees the manifest and
    its signature before anything is parsed.

    Raises BundleError naming the file at fault: a signature, a checksum, a format version, a graph whose tensors are
    not the manifest's, or golden scores that come out differently here.
    """
    bundle = read_bundle(path, check=check)
    manifest = bundle.manifest
    if manifest.export_format not in runtimes:
        allowed = ", ".join(runtimes)
        raise BundleError(MANIFEST, f"export_format {manifest.export_format!r} cannot be run, allowed: {allowed}")
    runtime = runtimes[manifest.export_format](bundle)
    replay_golden(runtime, bundle)
    _warm_up(runtime, bundle, max_candidates=max_candidates)
    explainer = choose_explainer(bundle, runtime) if explain else None
    if explainer is not None and manifest.explain is not None:
        replay_explained(explainer, manifest.explain, bundle)
    report = bundle.files.get(REPORT)
    return Loaded(
        manifest=manifest,
        encoder=bundle.encoder,
        runtime=runtime,
        prior_ctr=bundle.prior_ctr,
        explainer=explainer,
        report=None if report is None else bytes(report),
    )


def replay_golden(runtime: Runtime, bundle: Bundle) -> None:
    """Score the golden rows. Raises BundleError if they differ by more than the runtime tolerates."""
    if "pctr" not in bundle.golden:
        raise BundleError(GOLDEN, "has no scores (pctr)")
    expected = bundle.golden["pctr"]
    users, items = _inputs(bundle.manifest.user_half, bundle), _inputs(bundle.manifest.candidate_half, bundle)
    try:
        found = runtime.score(runtime.encode_user(users), items)["pctr"]
    except RuntimeFailure as error:
        raise BundleError(GOLDEN, f"its rows cannot be run through the graphs: {error}") from error
    if found.shape != expected.shape:
        raise BundleError(GOLDEN, f"has scores of shape {expected.shape}, the graphs give {found.shape}")
    difference = np.abs(np.subtract(found, expected, dtype=np.float64)).max(initial=0.0)
    if not difference <= runtime.tolerance:  # also true for NaN
        raise BundleError(GOLDEN, f"its scores differ by {difference:.2g} from what the graphs give here")


def replay_explained(explainer: Explainer, half: Half, bundle: Bundle) -> None:
    """Explain the golden rows. Raises BundleError if what `half` tells differs from what the eager net told."""
    users, items = _inputs(bundle.manifest.user_half, bundle), _inputs(bundle.manifest.candidate_half, bundle)
    try:
        found = explainer.score(explainer.encode_user(users), items)
    except RuntimeFailure as error:
        raise BundleError(half.file, f"the golden rows cannot be run through it: {error}") from error
    for spec in half.outputs:
        expected = bundle.golden.get(spec.name)
        if expected is None or expected.shape != found[spec.name].shape:
            raise BundleError(GOLDEN, f"has no {spec.name} of shape {found[spec.name].shape}")
        largest = np.maximum(np.abs(expected, dtype=np.float64), 1)  # attention without softmax has no bound
        difference = (np.abs(np.subtract(found[spec.name], expected, dtype=np.float64)) / largest).max(initial=0.0)
        if not difference <= explainer.tolerance:  # also true for NaN
            raise BundleError(GOLDEN, f"its {spec.name} differs by {difference:.2g} from what the graph gives here")


def _inputs(half: Half, bundle: Bundle) -> Tensors:
    names = [spec.name for spec in half.inputs if not spec.name.startswith("state_")]
    if missing := [name for name in names if name not in bundle.golden]:
        raise BundleError(GOLDEN, f"has no {', '.join(missing)}")
    return {name: bundle.golden[name] for name in names}


def _warm_up(runtime: Runtime, bundle: Bundle, *, max_candidates: int) -> None:
    """Run the shapes that requests will have, so that the first caller does not pay for memory and code paths."""
    shapes = runtime.limits.shapes or _usual_shapes(runtime, bundle, max_candidates=max_candidates)
    for users, count, length in shapes:
        try:
            runtime.score(*_padding(runtime, bundle, Shape(users, count, length)))
        except RuntimeFailure as error:
            what = f"{users} times {count} candidates with a history of {length}"
            raise BundleError(MANIFEST, f"{what} cannot be run: {error}") from error


def _usual_shapes(runtime: Runtime, bundle: Bundle, *, max_candidates: int) -> list[Shape]:
    """For a runtime that takes any: the smallest, a tile, the largest, and the most that is joined."""
    limits, longest, tile = runtime.limits, bundle.schema.max_history, bundle.manifest.candidate_tile or 1
    joined = [Shape(limits.users, limits.joined // limits.users, longest)] if limits.users > 1 else []
    return [Shape(1, 1, 0), Shape(1, tile, longest), Shape(1, max_candidates, longest), *joined]


def _padding(runtime: Runtime, bundle: Bundle, shape: Shape) -> tuple[Tensors, Tensors]:
    """A state and candidates of that shape, of nobody and nothing."""
    encoder, item = bundle.encoder, bundle.schema.keys.item
    histories = [make_behaviors(np.zeros(shape.length, dtype=np.int64))] * shape.users
    request = {**encoder.encode_request({}, {}, rows=shape.users), **encoder.encode_history(histories)}
    items = encoder.encode_items({item: np.zeros(shape.users * shape.candidates, dtype=np.int64)})
    sizes = shape.users, shape.candidates
    candidates = {name: tensor.reshape(*sizes, *tensor.shape[1:]) for name, tensor in items.items()}
    return runtime.encode_user(request), candidates
