"""What each option of the training file does to the validation AUC and log loss, against a baseline of the same seeds.

    python -m benchmarks.options --data FOLDER [--studies din,tables,dien,features,nets] [--cache FOLDER]
                                 [--result FILE]

FOLDER holds `tasks/beauty_next` and `ml-100k`. Runs are short (two epochs, one thread), so that a table takes an hour
and not a day: they tell what an option does early in training. The test split is not scored. A finished run is kept in
the cache, so the command can be broken off and repeated. The last line is one JSON object.
"""

import argparse
import copy
import hashlib
import json
import os
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import torch

from benchmarks.options_studies import STUDIES, Changes, Study
from model.config import RunConfig, config_from_table
from model.data.log import Log, read_log
from model.pipeline import prepare, run_training
from model.run_folder import config_table

BASELINE = "baseline"
Figures = dict[str, float]  # auc, log_loss


def main() -> None:
    """Run what is not in the cache; print the tables and the metrics."""
    options = _options()
    torch.set_num_threads(1)
    page, metrics = _header(), {}
    for name, found in _found(options).items():
        page += f"\n\n## {name}\n\n{table(found)}"
        metrics |= {f"{name}: {label}": round(difference(found, label, "auc"), 5) for label in STUDIES[name].variants}
    print(page)
    if options.result:
        options.result.write_text(page + "\n")
    print(json.dumps({"benchmark": "options", "metrics": metrics}))


def changed(table: Any, changes: Changes) -> Any:  # noqa: ANN401  # a TOML table
    """A copy of `table` with other values. None takes a key or a list's entry away, a list's end takes one more."""
    table = copy.deepcopy(table)
    for key, value in sorted(changes.items(), reverse=True):  # so that a list's last entry goes first
        *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
        at = table
        for part in path:
            at = at[part]
        if value is None:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value
    return table


def config_of(study: Study, changes: Changes, *, data: Path, seed: int = 0) -> RunConfig:
    """The baseline with `changes`, checked. Raises ConfigError."""
    table = changed(study.table, {**changes, "train.seed": seed})
    return config_from_table(table, file="benchmarks.options", base=data)


def sample(config: RunConfig, users: int) -> Log:
    """The log with one user in `users`."""
    log = read_log(config.data, config.schema, base=config.base)
    kept = pl.col(config.schema.keys.user) % users == 0
    return replace(log, train=log.train.filter(kept), valid=log.valid.filter(kept))


def table(found: dict[str, list[Figures]]) -> str:
    """A Markdown table: means, and differences to the baseline of the same seed with their lowest and highest."""
    lines = ["| option | AUC | log loss | AUC - baseline | log loss - baseline |", "|---|---|---|---|---|"]
    for label, seeds in found.items():
        cells = [f"{mean(run[name] for run in seeds):.4f}" for name in ("auc", "log_loss")]
        if label == BASELINE:
            cells += [f"({_range(seeds, name)})" for name in ("auc", "log_loss")]
        else:
            cells += [_difference(found, label, name) for name in ("auc", "log_loss")]
        lines.append(f"| `{label}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(found: dict[str, list[Figures]], label: str, name: str) -> float:
    """Mean difference to the baseline of the same seed."""
    return mean(_differences(found, label, name))


def _differences(found: dict[str, list[Figures]], label: str, name: str) -> list[float]:
    return [run[name] - base[name] for run, base in zip(found[label], found[BASELINE], strict=True)]


def _difference(found: dict[str, list[Figures]], label: str, name: str) -> str:
    each = _differences(found, label, name)
    return f"{mean(each):+.4f} ({min(each):+.4f} to {max(each):+.4f})"


def _range(seeds: list[Figures], name: str) -> str:
    values = [run[name] for run in seeds]
    return f"{min(values):.4f} to {max(values):.4f}"


def _found(options: argparse.Namespace) -> dict[str, dict[str, list[Figures]]]:
    """Study -> label -> the figures of every seed. The first seed of all studies comes first."""
    found: dict[str, dict[str, list[Figures]]] = {name: {} for name in options.studies}
    for seed in range(max(STUDIES[name].seeds for name in found)):
        for name, labels in found.items():
            if seed >= STUDIES[name].seeds:
                continue
            for label, changes in {BASELINE: {}, **STUDIES[name].variants}.items():
                print(f"{name}, seed {seed}: {label}", file=sys.stderr, flush=True)
                config = config_of(STUDIES[name], changes, data=options.data, seed=seed)
                labels.setdefault(label, []).append(_figures(config, STUDIES[name].users, options.cache))
    return found


def _figures(config: RunConfig, users: int, cache: Path) -> Figures:
    """Figures of the best epoch, from the cache if they are there. All ways of calibration share a training."""
    path = cache / f"{_digest(config, users)}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(_train(config, users)) + "\n")
        partial.replace(path)
    found = json.loads(path.read_text())
    return {"auc": found["auc"], "log_loss": found["log_loss"][config.calibration.method]}


def _digest(config: RunConfig, users: int) -> str:
    settings = {**config_table(replace(config, base=Path())), "users": users}
    del settings["calibration"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _train(config: RunConfig, users: int) -> dict[str, object]:
    log = sample(config, users)
    run, training = run_training(log, prepare(log, config), config)
    fitted = run.report["calibration"]["cross_fitted"]
    losses = {method: figures["log_loss"] for method, figures in fitted.items()}
    return {"auc": training.best_auc, "log_loss": losses}


def _header() -> str:
    return (
        f"# options, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"`python -m benchmarks.options`; Python {platform.python_version()}, torch {torch.__version__}.\n"
        "Validation split: AUC of the best epoch of two, log loss after calibration on the other half of the users.\n"
        "`nets`, `din`, `dien`: every fourth user of beauty_next; `features`: MovieLens 100K. Differences are of runs "
        "with the same seed; in brackets lowest and highest."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the logs")
    parser.add_argument("--studies", type=lambda text: text.split(","), default=list(STUDIES), help="default: all")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ctr-scorer" / "options")
    parser.add_argument("--result", type=Path, help="write the page there, as benchmarks/results/options_...md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
