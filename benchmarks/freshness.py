"""What is a day of training worth? Nets of the first day, of every day, and trained anew, judged on the next day.

    python -m benchmarks.freshness [--seeds N] [--systems NAME,...] [--keep FILE]

The log has seven days, in which interests drift and new items appear (`data.synthetic.launched`). After day d,

    static        is what was trained on day 1
    incremental   went on from yesterday's net on day d alone
    zero rows     the same, but a new id begins with the row of an unknown one instead of a fresh one
    full          was trained anew on all days so far
    moments       as incremental, and the optimiser goes on with its moments (`train.keep_moments`)

and all score day d + 1 before anything learns from it. Every tenth row of the days validates. Histories are as of each
impression for all of them, so even the static net sees what was clicked lately. Measurements are kept in a file of JSON
lines, and those that are there are not made again.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from model.bundle.schema import UNKNOWN
from model.config import RunConfig, read_config
from model.data.log import Log, read_log
from model.guard import open_contender
from model.incremental import Parent, read_parent
from model.moments import save_moments, with_moments
from model.newest_day import spread
from model.pipeline import Prepared, prepare, run_training
from model.run_folder import save_run, vocabulary_sizes

DAYS = 7
SYSTEMS = ("static", "incremental", "zero rows", "full", "moments")
EXAMPLE = Path(__file__).parents[1] / "examples" / "synthetic.toml"
Measurement = dict[str, Any]  # JSON: seed, day, system and figures
Found = dict[tuple[int, str, int], Measurement]  # by day, system and seed


def settings(seed: int) -> RunConfig:
    """The example's net and schema on a log of seven days."""
    config = read_config(EXAMPLE)
    sizes = dataclasses.replace(
        config.data.synthetic,
        users=2000,
        items=1000,
        impressions_per_user=10 * DAYS,
        seed=seed,
        days=DAYS,
        launched=0.7,
    )
    train = dataclasses.replace(config.train, seed=seed, epochs=4, patience=1, batch_size=256, keep_moments=True)
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
    run, training = run_training(log, prepared, config)
    save_run(out, run)
    save_moments(out, training, config.train)  # `measured` says which net takes them
    return out


def as_unknown(prepared: Prepared, parent: Parent) -> Prepared:
    """A parent that knows the new ids already, by the row of an unknown one."""
    sizes, weights = vocabulary_sizes(prepared.encoder), dict(parent.weights)
    for name, table in weights.items():
        new = sizes.get(name.removesuffix(".weight").rpartition(".")[2], 0) - len(table) if ".tables." in name else 0
        if new > 0:
            weights[name] = torch.cat([table, table[UNKNOWN].expand(new, -1)])
    return dataclasses.replace(prepared, parent=dataclasses.replace(parent, weights=weights))


def measured(seed: int, systems: Sequence[str], folder: Path) -> Iterator[Measurement]:
    """After each day but the first: the figures of the static net and of `systems` on the next day."""
    config = settings(seed)
    log, days = day_logs(config)

    def split(frame: pl.DataFrame) -> Log:
        train, valid = spread(frame, fraction=0.1)
        return dataclasses.replace(log, train=train, valid=valid, bayes_auc=None)

    first = trained(split(days[0]), config, folder / "day1")
    newest = dict.fromkeys(("static", *systems), first)
    for d in range(1, DAYS - 1):
        for system in systems:
            parent = None if system == "full" else read_parent(newest[system])
            if parent is not None and system == "moments":
                parent = with_moments(parent, newest[system], config.train)
            rows = pl.concat(days[: d + 1]) if system == "full" else days[d]
            zero_rows = system == "zero rows"
            newest[system] = trained(split(rows), config, folder / f"{system} {d}", parent=parent, zero_rows=zero_rows)
        for system, run in newest.items():
            contender = open_contender(run)
            figures = contender.scored(days[d + 1]).scores.metrics()
            known = contender.encoder.vocabularies["item_id"].lookup(days[d + 1]["item_id"].to_numpy()) != UNKNOWN
            yield {"seed": seed, "day": d + 1, "system": system, **figures, "known": float(known.mean())}


def main() -> None:
    """Print the table of means over seeds, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", default=",".join(SYSTEMS[1:]))
    parser.add_argument("--keep", type=Path, default=Path("freshness.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = read_kept(options.keep)
    for seed in range(options.seeds):
        whole = [s for s in SYSTEMS if (DAYS - 1, s, seed) in {(m["day"], m["system"], m["seed"]) for m in kept}]
        missing = [system for system in options.systems.split(",") if system not in whole]
        with tempfile.TemporaryDirectory() as folder:
            for measurement in measured(seed, missing, Path(folder)) if missing else ():
                with options.keep.open("a") as file:
                    file.write(json.dumps(measurement) + "\n")
    found = {(m["day"], m["system"], m["seed"]): m for m in read_kept(options.keep)}
    for systems in (SYSTEMS[:2], SYSTEMS[:3], SYSTEMS):
        if seeds := seeds_with(found, systems):
            print(f"\nseeds {', '.join(map(str, seeds))}\n\n{table(found, systems, seeds)}")
    print(json.dumps({"benchmark": "freshness", **summary(found)}))


def read_kept(path: Path) -> list[Measurement]:
    """The measurements of earlier calls."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seeds_with(found: Found, systems: Sequence[str]) -> list[int]:
    """The seeds for which all of these systems are measured to the last day."""
    return sorted({seed for _, _, seed in found if all((DAYS - 1, one, seed) in found for one in systems)})


def table(found: Found, systems: Sequence[str], seeds: Sequence[int]) -> str:
    """AUC, log loss and PCOC on the next day, means over seeds, in Markdown."""
    heads = [f"{system} {said}" for said in ("AUC", "log loss", "PCOC") for system in systems]
    lines = ["| after day | " + " | ".join(heads) + " | rows of items that static knows |"]
    lines.append("|---" * (len(heads) + 2) + "|")
    for day in range(2, DAYS):

        def mean(system: str, name: str, day: int = day) -> float:
            return statistics.mean(found[day, system, seed][name] for seed in seeds)

        cells = [f"{mean(system, name):.4f}" for name in ("auc", "log_loss", "pcoc") for system in systems]
        lines.append(f"| {day} | " + " | ".join(cells) + f" | {mean('static', 'known'):.0%} |")
    return "\n".join(lines)


def summary(found: Found) -> dict[str, object]:
    """Per day what incremental training gains over the static net: means over seeds, and the worst of AUC."""
    metrics, targets = {}, {}
    seeds = seeds_with(found, SYSTEMS[:2])
    for day in range(2, DAYS):
        pairs = [(found[day, "incremental", seed], found[day, "static", seed]) for seed in seeds]
        gains = [ours["auc"] - theirs["auc"] for ours, theirs in pairs]
        metrics[f"day{day}_auc_gain"] = round(statistics.mean(gains), 5)
        metrics[f"day{day}_auc_gain_worst"] = round(min(gains), 5)
        metrics[f"day{day}_log_loss_gain"] = round(statistics.mean(s["log_loss"] - o["log_loss"] for o, s in pairs), 5)
        targets[f"day{day}_auc_gain_worst"] = [">=", 0.0]
    return {"metrics": metrics, "targets": targets}


if __name__ == "__main__":
    main()
