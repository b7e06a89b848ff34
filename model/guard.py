"""Whether a new net may take the place of the one that serves: both score the newest day, which neither has learned.

    rows of the newest day --each one's own encoder and net--> calibrated pCTR --> AUC and log loss, compared in pairs

Differences have intervals by a bootstrap over users (`model.compare`). What decides is the difference itself; where the
interval is wider than the tolerance the day is too small to tell, and that is said.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.calibration import Calibration
from model.bundle.encode import Encoder
from model.bundle.errors import BundleError, ConfigError
from model.bundle.folder import Bundle, read_bundle
from model.bundle.manifest import MANIFEST
from model.compare import ComparedRun, compare
from model.data.batches import EncodedSplit, encode_split
from model.data.columns import impression_columns
from model.evaluate import predict_logit
from model.onnx_tables import open_half, run_half
from model.predictions import Predictions
from model.run_folder import TrainedRun, load_run

_BATCH = 1024  # rows
_SAID = {"auc": "AUC", "log_loss": "log loss"}

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How much worse a new net may be; more is refused."""

    auc: float = 0.002
    log_loss: float = 0.002  # in nats


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A run or a bundle that can score a log."""

    name: str
    net: dict[str, Any]  # Any: JSON
    encoder: Encoder
    calibration: Calibration
    last: int  # time of its newest training row, in seconds
    logits: Callable[[EncodedSplit], Logits]

    def check(self, rows: pl.DataFrame) -> None:
        """Raise ConfigError for rows without a column that it reads, or that it was trained on."""
        keys = self.encoder.schema.keys
        missing = [name for name in impression_columns(self.encoder.schema) if name not in rows.columns]
        if missing:
            allowed = f"a log with it: {self.name} reads it"
            raise ConfigError(file="the log", key=f"column {missing[0]}", found="no such column", allowed=allowed)
        if (first := int(rows[keys.timestamp].min())) <= self.last:  # type: ignore[arg-type]  # polars types a min by the column
            allowed = f"rows after {self.last}, up to which {self.name} was trained"
            raise ConfigError(file="the log", key=f"column {keys.timestamp}", found=first, allowed=allowed)

    def scored(self, frame: pl.DataFrame) -> ComparedRun:
        """Its scores of impressions. Raises ConfigError as `check`."""
        self.check(frame)
        return self.compared(self.predicted(encode_split(frame, self.encoder)))

    def predicted(self, split: EncodedSplit) -> Predictions:
        """Its scores of rows that its encoder encoded."""
        return Predictions(
            label=split.label,
            logit=self.logits(split),
            user=split.user,
            timestamp=split.timestamp,
            length=split.lengths,
            activity=np.zeros(len(split), dtype=np.int64),
        )

    def compared(self, rows: Predictions) -> ComparedRun:
        """Its scores, as `judge` takes them."""
        return ComparedRun(name=self.name, config={"net": self.net}, calibration=self.calibration, rows=rows)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the guard says. `comparison` is `compare`'s, the old net first; empty `reasons` let the new one pass."""

    comparison: dict[str, Any]  # Any: JSON
    reasons: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    def to_table(self) -> dict[str, Any]:  # Any: JSON
        """As JSON."""
        told = {"passed": not self.reasons, "reasons": self.reasons, "unsure": self.unsure}
        return {**told, "comparison": self.comparison}


def open_contender(path: Path) -> Contender:
    """A run's folder, or a bundle's or a pointer to one. Raises ConfigError or BundleError naming the file at fault."""
    if (path / "config.json").is_file():
        return contender_of(load_run(path), name=f"run {path.name}")
    bundle = read_bundle(path)
    manifest = bundle.manifest
    if "window" not in manifest.training:
        raise BundleError(MANIFEST, "does not say up to when it was trained")
    return Contender(
        name=f"{manifest.name} {manifest.version}",
        net=manifest.net,
        encoder=bundle.encoder,
        calibration=manifest.parsed_calibration(),
        last=int(manifest.training["window"]["last"]),
        logits=_graphs(bundle),
    )


def contender_of(run: TrainedRun, *, name: str) -> Contender:
    """A run that is in memory."""
    return Contender(
        name=name,
        net=run.config["net"],
        encoder=run.encoder,
        calibration=run.calibration,
        last=int(run.metrics["window"]["last"]),
        logits=lambda split: predict_logit(run.net, split),
    )


def judge(new: ComparedRun, old: ComparedRun, tolerance: Tolerance) -> Verdict:
    """Compare scores of the same rows. Raises ConfigError if these have clicks only, or none."""
    clicks = int(new.rows.label.sum())
    if clicks in (0, len(new.rows)):
        found = f"{clicks} clicks in {len(new.rows)} rows"
        raise ConfigError(file="the newest day", key="label", found=found, allowed="rows with and without a click")
    comparison = compare([old, new], "newest day")
    reasons, unsure = [], []
    for name, sign, allowed in (("auc", -1, tolerance.auc), ("log_loss", 1, tolerance.log_loss)):
        found = comparison["runs"][1]["difference"][name]
        if found["value"] is None:
            reasons.append(f"{_SAID[name]} is no number")
        elif sign * found["value"] > allowed:
            reasons.append(f"{_SAID[name]} is worse by {abs(found['value']):.4f}, allowed: {allowed:g}")
        elif found["low"] is None or max(sign * found["low"], sign * found["high"]) > allowed:
            between = "anything" if found["low"] is None else f"{found['low']:+.4f} to {found['high']:+.4f}"
            unsure.append(f"{len(new.rows):,} rows are few: the difference in {_SAID[name]} may be {between}")
    return Verdict(comparison=comparison, reasons=reasons, unsure=unsure)


def _graphs(bundle: Bundle) -> Callable[[EncodedSplit], Logits]:
    manifest = bundle.manifest
    if manifest.export_format != "onnx":
        why = f"export_format {manifest.export_format!r} is not scored here, allowed: onnx, or the run it came from"
        raise BundleError(MANIFEST, why)
    user, candidate = ((half, open_half(bundle.files, half)) for half in (manifest.user_half, manifest.candidate_half))

    def logits(split: EncodedSplit) -> Logits:
        out = np.empty(len(split), dtype=np.float32)
        order = np.argsort(split.lengths, kind="stable")  # rows of similar length together: less padding
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            tensors = split.take(rows)
            state = run_half(*user, tensors)
            out[rows] = run_half(*candidate, {**tensors, **state})["logit"][:, 0]
        return out

    return logits
