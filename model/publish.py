"""A trained run -> a bundle, through the parity gate. Nothing is written unless the gate passes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.folder import GOLDEN, PRIOR, encoder_files, to_npy, to_npz, write_bundle
from model.bundle.manifest import FORMAT_VERSION, Manifest, NativeHalf
from model.bundle.signature import Sign
from model.bundle_weights import WEIGHTS, weights_file
from model.export import export_halves
from model.halves import ExportedHalves
from model.native_weights import native_half
from model.report.page import report_files
from model.run_folder import TrainedRun
from model.torchscript_export import export_torchscript

Format = Literal["onnx", "torchscript"]
_EXPORTS = {"onnx": export_halves, "torchscript": export_torchscript}


def publish(  # noqa: PLR0913  # what is exported, where to, and what a manifest says beside it
    run: TrainedRun,
    root: Path,
    *,
    version: str,
    code_version: str,
    export_format: Format = "onnx",
    created: int | None = None,
    sign: Sign | None = None,
) -> Path:
    """Export `run` and write `root/<version>/`, signed if asked; `created` is now, in seconds since the epoch.

    Raises ExportError, or BundleError if the version is there already.
    """
    exported = _exported(run, export_format)
    native = native_half(run.net) if export_format == "onnx" else None  # its user half is the ONNX graph
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=run.config["name"],
        version=version,
        net=run.config["net"],
        schema=run.schema.to_table(),
        user_half=exported.user,
        candidate_half=exported.candidate,
        candidate_tile=run.net.candidate_tile,
        export_format=export_format,
        native=native[0] if native else None,
        explain=exported.explain,
        calibration=dataclasses.asdict(run.calibration),
        training=_training(run),
        metrics=_numbers(run.metrics["splits"]),
        score_distribution=run.metrics["score_distribution"],
        code_version=code_version,
        created=created,
    )
    weights = _native_files(*native) if native else {}
    if export_format == "onnx":  # the tables of TorchScript are inside it, and would be there twice
        weights[WEIGHTS] = weights_file(run.net, exported)
    return write_bundle(root, manifest, {**_files(run, exported), **weights}, sign=sign)


def _training(run: TrainedRun) -> dict[str, Any]:  # Any: JSON
    """What the net was trained on, with what settings, and from where it went on if it did not begin anew."""
    parent = {"parent": run.metrics["parent"]} if "parent" in run.metrics else {}
    return {"window": run.metrics["window"], "train": run.config["train"], **parent}


def _exported(run: TrainedRun, export_format: Format) -> ExportedHalves:
    """The graphs, through the gate on the run's golden rows. Raises ExportError."""
    candidates = {name: tensor for name, tensor in run.golden.items() if name.startswith("item_")}
    request = {name: tensor for name, tensor in run.golden.items() if name not in candidates}
    return _EXPORTS[export_format](run.net, request, candidates, calibration=run.calibration)


def _files(run: TrainedRun, exported: ExportedHalves) -> dict[str, bytes]:
    """Every file of the bundle but the manifest and the native weights."""
    return {
        **encoder_files(run.encoder),
        **exported.files,
        **report_files(run.report),
        PRIOR: to_npy(run.prior_ctr),
        GOLDEN: to_npz(exported.golden),
    }


def _native_files(half: NativeHalf, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, bytes]:
    """The weights that no other file holds."""
    apart = {f"table.{name}" for name in half.tables}
    return {half.file: to_npz({name: array for name, array in arrays.items() if name not in apart})}


def _numbers(splits: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The figures that are numbers: JSON has no NaN, and a split of one class has no AUC."""
    return {split: {n: v for n, v in figures.items() if math.isfinite(v)} for split, figures in splits.items()}
