"""What is a day of training worth? Nets of the first day, of every day, and trained anew, judged on the next day.

    python -m benchmarks.freshness [--seeds N] [--users N]

The log has seven days, in which interests drift and new items appear (`data.synthetic.launched`). After day d,

    static        is what was trained on day 1
    incremental   went on from yesterday's net on day d alone
    zero rows     the same, but a new id begins with the row of an unknown one instead of a fresh one
    full          was trained anew on all days so far

and all score day d + 1 before anything learns from it. The newest tenth of a day's rows validates. Histories are as of
each impression for all of them, so even the static net sees what was clicked lately.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch

from model.bundle.schema import UNKNOWN
from model.config import RunConfig, read_config
from model.data.log import Log, read_log
from model.guard import open_contender
from model.incremental import Parent, read_parent
from model.pipeline import Prepared, prepare, run_training
from model.run_folder import save_run, vocabulary_sizes

DAYS = 7
SYSTEMS = ("static", "incremental", "zero rows", "full")
EXAMPLE = Path(__file__).parents[1] / "examples" / "synthetic.toml"
Figures = dict[str, float]


def settings(seed: int, users: int) -> RunConfig:
    """The example's net and schema on a log of seven days."""
    config = read_config(EXAMPLE)
    sizes = dataclasses.replace(
        config.data.synthetic,
        users=users,
        items=1000,
        impressions_per_user=10 * DAYS,
        seed=seed,
        days=DAYS,
        launched=0.7,
    )
    train = dataclasses.replace(config.train, seed=seed, epochs=4, patience=1, batch_size=256)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic=sizes), train=train)


def day_logs(config: RunConfig) -> tuple[Log, list[pl.DataFrame]]:
    """The log, and the rows of each day in order of time."""
    log = read_log(config.data, config.schema, base=config.base)
    rows = pl.concat(log.splits().values()).sort("timestamp", maintain_order=True)
    day = (rows["timestamp"] - rows["timestamp"][0]) // 86_400
    return log, [rows.filter(day == d) for d in range(DAYS)]


def trained(log: Log, config: RunConfig, out: Path, *, parent: Parent | None = None, zero_rows: bool = False) -> Path:
    """The folder of a run on the log's splits."""
    prepared = prepare(log, config, parent=parent)
    if zero_rows and parent is not None:
        prepared = as_unknown(prepared, parent)
    save_run(out, run_training(log, prepared, config)[0])
    return out


def as_unknown(prepared: Prepared, parent: Parent) -> Prepared:
    """A parent that knows the new ids already, by the row of an unknown one."""
    sizes, weights = vocabulary_sizes(prepared.encoder), dict(parent.weights)
    for name, table in weights.items():
        new = sizes.get(name.removesuffix(".weight").rpartition(".")[2], 0) - len(table) if ".tables." in name else 0
        if new > 0:
            weights[name] = torch.cat([table, table[UNKNOWN].expand(new, -1)])
    return dataclasses.replace(prepared, parent=dataclasses.replace(parent, weights=weights))


def measured(seed: int, users: int, folder: Path) -> Iterator[tuple[int, str, Figures]]:
    """After each day but the first: system, and its figures on the next day."""
    config = settings(seed, users)
    log, days = day_logs(config)

    def split(frame: pl.DataFrame) -> Log:
        cut = round(len(frame) * 0.9)
        return dataclasses.replace(log, train=frame[:cut], valid=frame[cut:], bayes_auc=None)

    first = trained(split(days[0]), config, folder / "day1")
    newest = dict.fromkeys(SYSTEMS, first)
    for d in range(1, DAYS - 1):
        for system in SYSTEMS[1:]:
            out = folder / f"{system} {d}"
            parent = None if system == "full" else read_parent(newest[system])
            rows = pl.concat(days[: d + 1]) if system == "full" else days[d]
            newest[system] = trained(split(rows), config, out, parent=parent, zero_rows=system == "zero rows")
        for system in SYSTEMS:
            contender = open_contender(newest[system])
            figures = contender.scored(days[d + 1]).scores.metrics()
            known = contender.encoder.vocabularies["item_id"].lookup(days[d + 1]["item_id"].to_numpy()) != UNKNOWN
            yield d + 1, system, {**figures, "known": float(known.mean())}


def main() -> None:
    """Print a line per measurement, the table of means over seeds, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--users", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[int, str], list[Figures]] = {}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for day, system, figures in measured(seed, options.users, Path(folder)):
                found.setdefault((day, system), []).append(figures)
                said = " ".join(f"{name} {figures[name]:.4f}" for name in ("auc", "log_loss", "pcoc", "known"))
                print(f"seed {seed} after day {day}: {system:12} {said}", flush=True)
    print(table(found))
    print(json.dumps({"benchmark": "freshness", **summary(found)}))


def table(found: dict[tuple[int, str], list[Figures]]) -> str:
    """AUC and log loss on the next day, means over seeds, in Markdown."""
    heads = [f"{system} {said}" for said in ("AUC", "log loss") for system in SYSTEMS]
    lines = ["| after day | " + " | ".join(heads) + " | known to static |", "|---" * (len(heads) + 2) + "|"]
    for day in range(2, DAYS):
        cells = [f"{_mean(found[day, s], name):.4f}" for name in ("auc", "log_loss") for s in SYSTEMS]
        lines.append(f"| {day} | " + " | ".join(cells) + f" | {_mean(found[day, 'static'], 'known'):.0%} |")
    return "\n".join(lines)


def summary(found: dict[tuple[int, str], list[Figures]]) -> dict[str, object]:
    """Per day what incremental training gains in AUC over the static net: the mean over seeds and the worst of them."""
    metrics, targets = {}, {}
    for day in range(2, DAYS):
        pairs = list(zip(found[day, "incremental"], found[day, "static"], strict=True))
        gains = [ours["auc"] - static["auc"] for ours, static in pairs]
        losses = [static["log_loss"] - ours["log_loss"] for ours, static in pairs]
        metrics[f"day{day}_auc_gain"] = round(statistics.mean(gains), 5)
        metrics[f"day{day}_auc_gain_worst"] = round(min(gains), 5)
        metrics[f"day{day}_log_loss_gain"] = round(statistics.mean(losses), 5)
        targets[f"day{day}_auc_gain_worst"] = [">=", 0.0]
    for system in ("zero rows", "full"):
        gaps = [_mean(found[d, "incremental"], "auc") - _mean(found[d, system], "auc") for d in range(2, DAYS)]
        metrics[f"auc_over_{system.replace(' ', '_')}"] = round(statistics.mean(gaps), 5)
    return {"metrics": metrics, "targets": targets}


def _mean(figures: list[Figures], name: str) -> float:
    return statistics.mean(one[name] for one in figures)


if __name__ == "__main__":
    main()
