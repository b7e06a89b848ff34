"""Runs side by side: figures of one split with their intervals, differences to the first run, other settings.

Differences are paired where the runs scored the same rows: both see the same bootstrap replicates (`model.bootstrap`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle.calibration import Calibration
from model.bundle.errors import ConfigError
from model.bundle.typed_table import from_table
from model.metrics import rela_impr
from model.predictions import Predictions, load_predictions, scored_splits
from model.report.figures import SAMPLES, Scores, estimate

Table = dict[str, Any]  # JSON


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """What a comparison reads of a run: no net and no log."""

    name: str
    config: Table
    calibration: Calibration
    rows: Predictions

    @property
    def scores(self) -> Scores:
        """The rows with their calibrated pCTR."""
        return Scores(self.rows, self.calibration)


def read_compared(folder: Path, split: str) -> ComparedRun:
    """Read a run's scores of `split`. Raises ConfigError naming the file that is missing or wrong."""
    tables = {}
    for name in ("config.json", "metrics.json"):
        try:
            tables[name] = json.loads((folder / name).read_text())
        except (OSError, ValueError) as error:
            allowed = "a run of `ctr-model train`"
            raise ConfigError(file=str(folder / name), key="(file)", found=str(error), allowed=allowed) from error
    metrics = folder / "metrics.json"
    calibration = from_table(
        Calibration, tables["metrics.json"].get("calibration", {}), file=str(metrics), key="calibration"
    )
    rows = load_predictions(folder, split)
    return ComparedRun(name=str(folder), config=tables["config.json"], calibration=calibration, rows=rows)


def common_split(folders: list[Path]) -> str:
    """`test` if every run has scores of it, else `valid`."""
    return "test" if all("test" in scored_splits(folder) for folder in folders) else "valid"


def compare(runs: list[ComparedRun], split: str, *, samples: int = SAMPLES) -> Table:
    """The comparison as JSON values: `runs` in order, each with its `metrics`, and for all but the first `difference`.

    `difference` is absent where a run scored other rows than the first one. RelaImpr is against the first run of the
    net `base`, if there is one and it scored the same rows.
    """
    scores = [run.scores for run in runs]
    drawn = [each.replicates(samples) for each in scores]
    points = [each.metrics() for each in scores]
    base = next((i for i, run in enumerate(runs) if run.config["net"]["kind"] == "base"), None)
    found = []
    for i, run in enumerate(runs):
        values, replicates = dict(points[i]), dict(drawn[i])
        if base is not None and i != base and _same_rows(run, runs[base]):
            values["rela_impr"] = rela_impr(points[i]["auc"], points[base]["auc"])
            pairs = zip(drawn[i]["auc"], drawn[base]["auc"], strict=True)
            replicates["rela_impr"] = np.array([rela_impr(float(a), float(b)) for a, b in pairs])
        row = {
            "run": run.name,
            "net": run.config["net"]["kind"],
            "rows": len(run.rows),
            "metrics": {name: estimate(values[name], replicates[name]) for name in replicates},
        }
        if i and _same_rows(run, runs[0]):
            row["difference"] = {
                name: estimate(points[i][name] - points[0][name], drawn[i][name] - drawn[0][name]) for name in drawn[0]
            }
        found.append(row)
    return {"split": split, "samples": samples, "runs": found, "settings": other_settings([r.config for r in runs])}


def other_settings(configs: list[Table]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each run, for the keys whose values are not all the same; None where there is none."""
    flat = [dotted(config) for config in configs]
    keys = sorted({key for table in flat for key in table})
    rows = {key: [table.get(key) for table in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _same_rows(one: ComparedRun, other: ComparedRun) -> bool:
    return one.rows.fingerprint == other.rows.fingerprint


def dotted(table: Table, prefix: str = "") -> Table:
    """Every value of nested tables by its dotted key."""
    rows: Table = {}
    for key, value in table.items():
        rows |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return rows
