"""A trained net's figures on a split: scored, calibrated on the validation split, measured.

The report of a run is one table of plain JSON values; `page` renders it. `valid` is there from training on, other
splits come with `ctr-model evaluate`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import polars as pl

from model.bundle.calibration import Calibration
from model.bundle.distribution import distribution
from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.calibration import METHODS, CalibrationConfig, cross_fitted, fit_calibration
from model.data.sharded_log import ShardedLog
from model.log_facts import AnyLog
from model.metrics import all_metrics, rela_impr
from model.predictions import Predictions
from model.report.figures import CALIBRATED, Scores, rounded, split_figures

REPORT_FORMAT = 1
FITTED_ON = "valid"

Table = dict[str, Any]  # JSON


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What the validation split came to. `metrics` and `report` are parts of the run's tables."""

    calibration: Calibration
    metrics: Table
    report: Table


def assess(rows: Predictions, config: CalibrationConfig, *, negative_sampling_rate: float = 1.0) -> Assessment:
    """Fit the calibration on the validation split's `rows` and measure them with it.

    Its calibrated figures are of the rows that it was fitted on; `calibration.cross_fitted` of the report tells what
    each method does on rows that it has not seen.
    """
    calibration = fit_calibration(
        config.method, rows.logit, label=rows.label, negative_sampling_rate=negative_sampling_rate
    )
    pctr = calibration.pctr(rows.logit)
    table = dataclasses.asdict(calibration)
    return Assessment(
        calibration=calibration,
        metrics={
            "calibration": table,
            "splits": {FITTED_ON: all_metrics(rows.label, pctr, rows.user)},
            "score_distribution": distribution(pctr, split=FITTED_ON),
        },
        report={
            "calibration": {
                **table,
                "fitted_on": FITTED_ON,
                "rows": len(rows),
                "cross_fitted": {m: _cross_fitted(m, rows, negative_sampling_rate) for m in METHODS},
            },
            "splits": {FITTED_ON: split_figures(rows, calibration)},
        },
    )


def assess_split(
    rows: Predictions, split: str, *, calibration: Calibration, base: Scores | None = None
) -> tuple[dict[str, float], Table]:
    """A split's figures for the run and for its report. Raises ConfigError if `base` scored other rows."""
    if base is not None and base.rows.fingerprint != rows.fingerprint:
        allowed = "a run that scored the same rows"
        raise ConfigError(file="--base", key=split, found="other rows", allowed=allowed)
    metrics = all_metrics(rows.label, calibration.pctr(rows.logit), rows.user)
    if base is not None:
        metrics["rela_impr"] = rela_impr(metrics["auc"], base.metrics()["auc"])
    return metrics, split_figures(rows, calibration, base=base)


def begun_report(log: AnyLog, schema: Schema, *, config: Table, metrics: Table) -> Table:
    """The parts of a report that are no scores: what was trained, on what, and how that went."""
    return {
        "format": REPORT_FORMAT,
        "name": config["name"],
        "config": described(config),
        "data": summary(log, schema),
        "training": {name: metrics[name] for name in ("evaluations", "best_epoch", "interrupted")},
    }


def described(config: Mapping[str, Any]) -> Table:
    """The run's configuration without the place of its log on this machine."""
    data = dict(config.get("data", {}))
    for place in ("path", "url"):
        if data.get(place):
            data[place] = PurePath(data[place]).name
    return {**config, "data": data}


def summary(log: AnyLog, schema: Schema) -> Table:
    """Rows, users, items, click rate, mean history length and time range of each split of the log."""
    if isinstance(log, ShardedLog):
        return log.splits
    return {name: _summary(getattr(log, name), schema) for name in ("train", "valid", "test")}


def _summary(frame: pl.DataFrame, schema: Schema) -> Table:
    keys = schema.keys
    history = schema.behavior[0].column if schema.behavior else None
    return {
        "rows": len(frame),
        "users": frame[keys.user].n_unique(),
        "items": frame[keys.item].n_unique(),
        "click_rate": rounded(frame[keys.label].mean()),  # type: ignore[arg-type]  # polars types a mean by the column
        "mean_history": rounded(frame[history].list.len().mean()) if history else None,  # type: ignore[arg-type]  # as above
        "first": int(frame[keys.timestamp].min()),  # type: ignore[arg-type]  # as above
        "last": int(frame[keys.timestamp].max()),  # type: ignore[arg-type]  # as above
    }


def _cross_fitted(method: Any, rows: Predictions, rate: float) -> Table:  # noqa: ANN401  # one of METHODS
    pctr = cross_fitted(method, rows.logit, label=rows.label, user=rows.user, rate=rate)
    figures = all_metrics(rows.label, pctr, rows.user)
    return {name: rounded(figures[name]) for name in CALIBRATED}
