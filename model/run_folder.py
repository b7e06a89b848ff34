"""A run on disk: everything that evaluation and export need, the log excepted.

runs/<name>/config.json     the checked configuration, schema included
            weights.safetensors
            vocab/...       the encoder's files, as in a bundle
            golden.npz      encoded rows on which the export will be checked
            metrics.json    training history, calibration and figures per split
            predictions/    raw scores by split, for `compare` and the report
            report.json     every figure with its interval; report.html shows them
"""

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from model.bundle.calibration import Calibration
from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import ConfigError
from model.bundle.folder import PRIOR, encoder_files, read_encoder, to_npy, to_npz
from model.bundle.schema import Schema, schema_from_table
from model.bundle.typed_table import from_table
from model.config import RunConfig
from model.nets import Net, build_net
from model.predictions import Predictions, save_predictions
from model.report.page import REPORT_JSON, report_files


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained net with what it was trained on. `config` is the plain table of the configuration."""

    net: Net
    encoder: Encoder
    prior_ctr: NDArray[np.float32]
    golden: Tensors  # inputs of both halves, without scores
    config: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Mapping[str, Predictions] = field(default_factory=dict)  # by split; not read back by `load_run`
    report: dict[str, Any] = field(default_factory=dict)  # empty where nothing was measured

    @property
    def calibration(self) -> Calibration:
        """The curve from raw logits to calibrated ones."""
        return from_table(Calibration, self.metrics.get("calibration", {}), file="metrics.json", key="calibration")

    @property
    def schema(self) -> Schema:
        """The features of the run."""
        return self.encoder.schema


def config_table(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    path = str(config.base / config.data.path) if config.data.path else None
    table = {
        "name": config.name,
        "data": {**dataclasses.asdict(config.data), "path": path},
        "schema": config.schema.to_table(),
        "net": dict(config.net),
        "train": dataclasses.asdict(config.train),
        "calibration": dataclasses.asdict(config.calibration),
        "pretrained": [{**dataclasses.asdict(p), "file": str(p.file)} for p in config.pretrained],
    }
    plain: dict[str, Any] = json.loads(json.dumps(table))
    return plain


def save_run(folder: Path, run: TrainedRun) -> None:
    """Write the run. A run that is there already is overwritten file by file."""
    files = {**encoder_files(run.encoder), PRIOR: to_npy(run.prior_ctr), "golden.npz": to_npz(run.golden)}
    for name, raw in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    save_file({n: t.contiguous() for n, t in run.net.state_dict().items()}, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(run.config, indent=1) + "\n")
    save_figures(folder, run)


def save_figures(folder: Path, run: TrainedRun) -> None:
    """Write what evaluation changes alone: the figures, the scores of the run's `predictions`, the report."""
    (folder / "metrics.json").write_text(json.dumps(run.metrics, indent=1) + "\n")
    save_predictions(folder, run.predictions)
    for name, raw in report_files(run.report).items():
        (folder / name).write_bytes(raw)


def load_run(folder: Path) -> TrainedRun:
    """Read a run. Raises ConfigError naming the file that is missing or wrong."""
    with _reading(folder / "config.json") as path:
        config = json.loads(path.read_text())
        schema = schema_from_table(config["schema"], file=str(path))
    with _reading(folder / "vocab") as path:
        files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(path.iterdir())}
        encoder = read_encoder(schema, files)
    with _reading(folder / PRIOR) as path:
        prior = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    net = build_net(config["net"], schema, vocabulary_sizes(encoder), file=str(folder / "config.json"))
    with _reading(folder / "weights.safetensors") as path:
        net.load_state_dict(load(path.read_bytes()))
    with _reading(folder / "golden.npz") as path:
        golden: Tensors = dict(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))
    with _reading(folder / "metrics.json") as path:
        metrics = json.loads(path.read_text())
    run = TrainedRun(net=net.eval(), encoder=encoder, prior_ctr=prior, golden=golden, config=config, metrics=metrics)
    return dataclasses.replace(run, report=read_report(folder))


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a run; empty if it has none. Raises ConfigError if the file is not one."""
    if not (folder / REPORT_JSON).is_file():
        return {}
    with _reading(folder / REPORT_JSON) as path:
        report: dict[str, Any] = json.loads(path.read_text())
        return report


def vocabulary_sizes(encoder: Encoder) -> dict[str, int]:
    """Embedding rows per feature that has an embedding."""
    return encoder.embedding_rows()


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Whatever is wrong with a file, its name is told, in one line."""
    try:
        yield path
    except ConfigError:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, BadZipFile, SafetensorError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(file=str(path), key="(file)", found=why, allowed="a run of `ctr-model train`") from error
