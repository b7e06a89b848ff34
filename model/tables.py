"""What `ctr-model` prints: tables for a terminal."""

from typing import Any

from rich.table import Table

from model.config import RunConfig
from model.log_facts import AnyLog
from model.replay import Skew
from model.report.assessment import summary
from model.report.figures import METRICS
from model.run_folder import TrainedRun

_SAID = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log loss",
    "ne": "NE",
    "pcoc": "PCOC",
    "ece": "ECE",
    "rela_impr": "RelaImpr",
}


def log_table(log: AnyLog, settings: RunConfig) -> Table:
    """The splits of a log."""
    known = ["Bayes AUC"] if log.bayes_auc else []
    table = Table("split", "rows", "users", "items", "click rate", "mean history", *known, title=settings.name)
    for name, told in summary(log, settings.schema).items():
        counts = [f"{told[count]:,}" for count in ("rows", "users", "items")]
        history = "-" if told["mean_history"] is None else f"{told['mean_history']:.1f}"
        table.add_row(name, *counts, f"{told['click_rate']:.4f}", history, *_bayes(log.bayes_auc, name))
    return table


def figures_table(run: TrainedRun, bayes_auc: dict[str, float] | None) -> Table:
    """The figures of every split that the run has; those of a calibrated pCTR."""
    figures: dict[str, Any] = run.metrics["splits"]
    columns = [name for name in METRICS[1:] if any(name in row for row in figures.values())]
    known = ["Bayes AUC"] if bayes_auc else []
    table = Table("split", "AUC", *known, *(_SAID[c] for c in columns), "rows", title=run.config["net"]["kind"])
    for split, row in figures.items():
        values = [f"{row[name]:.4f}" if name in row else "-" for name in columns]
        table.add_row(split, f"{row['auc']:.4f}", *_bayes(bayes_auc, split), *values, f"{row['rows']:,.0f}")
    return table


def skew_table(skew: Skew) -> Table:
    """How far offline scores are from those served, and the requests where they are farthest."""
    passed = "".join(f", {count:,} requests passed over: {why}" for why, count in skew.skipped.items())
    title = f"{skew.rows:,} rows of {skew.requests:,} requests: max {skew.max:.3g}, mean {skew.mean:.3g}{passed}"
    table = Table("request", "item", "served", "replayed", "difference", title=title)
    for row in skew.worst:
        scores = (f"{row.served:.8f}", f"{row.replayed:.8f}", f"{row.difference:.3g}")
        table.add_row(row.request_id, str(row.item_id), *scores)
    return table


def comparison_tables(comparison: dict[str, Any]) -> list[Table]:
    """Figures with their 95 % intervals, a column per run; below them the settings that are not the same."""
    runs = comparison["runs"]
    columns = [f"{run['run']}\n{run['net']}, {run['rows']:,} rows" for run in runs]
    figures = Table("metric", *columns, title=f"{comparison['split']} split", show_lines=True)
    for name in METRICS:
        if any(name in run["metrics"] for run in runs):
            figures.add_row(_SAID[name], *(_cell(run, name) for run in runs))
    settings = Table("setting", *(run["run"] for run in runs), title="settings that differ")
    for key, values in comparison["settings"].items():
        settings.add_row(key, *("-" if value is None else str(value) for value in values))
    return [figures, settings] if comparison["settings"] else [figures]


def _cell(run: dict[str, Any], name: str) -> str:
    """The value, its interval, and the difference to the first run: bold where its interval leaves 0 out."""
    found = run["metrics"].get(name)
    if found is None or found["value"] is None:
        return "-"
    lines = [f"{found['value']:.4f}", f"[dim]{_between(found)}[/dim]"]
    difference = run.get("difference", {}).get(name)
    if difference and difference["low"] is not None:
        text = f"{difference['value']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
        real = difference["low"] > 0 or difference["high"] < 0
        lines.append(f"[bold]{text} *[/bold]" if real else text)
    return "\n".join(lines)


def _between(found: dict[str, Any]) -> str:
    return f"{found['low']:.4f} to {found['high']:.4f}" if found["low"] is not None else "no interval"


def _bayes(bayes_auc: dict[str, float] | None, split: str) -> list[str]:
    """The cell of the best AUC that any net can reach, where the log's generator knows it."""
    return [f"{bayes_auc[split]:.4f}"] if bayes_auc else []
