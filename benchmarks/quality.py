"""Accuracy of our DIN and DIEN beside the peers', on the same splits, embedding width and history length.

    python -m benchmarks.quality --data FOLDER [--tasks T,..] [--nets din,dien] [--seeds N] [--peers-only]
                                 [--skip-peers] [--cached] [--cache FOLDER] [--result FILE]

FOLDER holds the tasks. Ours are trained with `examples/rating.toml` or `examples/next_item.toml`, seeds 0 to N - 1,
peers with seed 0 and the settings of `benchmarks.peers`; on `*_next` one of them also with our fresh negatives.
Every training is kept in the cache, so the command can be broken off and repeated. Which of our nets stands against
the best peer is decided on the validation split.
The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import torch

from benchmarks.quality_recorded import RECORDED
from benchmarks.quality_runs import OURS, TASKS, Figures, Job, cache_file, figures, history_of
from benchmarks.train_peers import PEERS, PeerError

NETS = ("din", "dien")
FRESH = "+fresh"  # no peer draws its non-clicks anew; one that did, through our loop, shows how much of a gain that is
METRICS = ("auc", "gauc", "log_loss", "pcoc")
Runs = Mapping[tuple[str, str], list[Figures]]  # (system, net) -> one entry per seed


def main() -> None:
    """Train what is not in the cache; print the table and the metrics."""
    options = _options()
    tasks = {task: _runs(task, options) for task in options.tasks}
    page = _header() + "".join(f"\n\n## {task}, L = {history_of(task)}\n\n{table(task, tasks[task])}" for task in tasks)
    print(page)
    if options.result:
        options.result.write_text(page + "\n")
    metrics = {name: value for task, runs in tasks.items() for name, value in compared(task, runs).items()}
    print(json.dumps({"benchmark": "quality", "metrics": metrics, "targets": targets(options.tasks)}))


def table(task: str, runs: Runs) -> str:
    """A Markdown table of test figures: mean and, over several seeds, the spread from lowest to highest."""
    lines = ["| system | net | seeds | AUC | GAUC | log loss | PCOC |", "|---|---|---|---|---|---|---|"]
    for (system, net), seeds in runs.items():
        cells = [_cell([found["test"][metric] for found in seeds]) for metric in METRICS]
        lines.append(f"| {system} | {net} | {len(seeds)} | " + " | ".join(cells) + " |")
    for name, auc in RECORDED.get(task, {}).items():
        lines.append(f"| {name.split()[0]} (recorded) | {name.split()[1]} | 1 | {auc:.4f} | | | |")
    return "\n".join(lines)


def compared(task: str, runs: Runs) -> dict[str, float]:
    """Our figures over the best peer's; a metric that lacks one side is left out."""
    ours = {net: seeds for (system, net), seeds in runs.items() if system == OURS}
    peers = [seeds[0]["test"] for (system, _), seeds in runs.items() if system in PEERS]
    fresh = [seeds[0]["test"]["auc"] for (system, _), seeds in runs.items() if system.endswith(FRESH)]
    if not ours:
        return {}
    best = max(ours, key=lambda net: _mean(ours[net], "valid", "auc"))
    best_peer = max([*RECORDED.get(task, {}).values(), *(peer["auc"] for peer in peers)])
    out = {f"{task}_over_best_peer": _mean(ours[best], "test", "auc") - best_peer}
    if peers:
        lowest = min(peer["log_loss"] for peer in peers)
        out[f"{task}_log_loss_over_best_peer"] = _mean(ours[best], "test", "log_loss") - lowest
    if fresh:
        out[f"{task}_over_best_fresh_peer"] = _mean(ours[best], "test", "auc") - max(fresh)
    if set(NETS) <= set(ours):
        out[f"{task}_dien_over_din"] = _mean(ours["dien"], "test", "auc") - _mean(ours["din"], "test", "auc")
    return {name: round(value, 5) for name, value in out.items()}


def targets(tasks: list[str]) -> dict[str, tuple[str, float]]:
    """What each metric has to reach."""
    out: dict[str, tuple[str, float]] = {}
    for task in tasks:
        out[f"{task}_over_best_peer"] = (">=", 0.0 if task == "ml100k_rating" else 0.005)
        out[f"{task}_log_loss_over_best_peer"] = ("<=", 0.0)
        if task.endswith("_next"):
            out[f"{task}_dien_over_din"] = (">=", 0.0)
    return out


def _runs(task: str, options: argparse.Namespace) -> dict[tuple[str, str], list[Figures]]:
    found: dict[tuple[str, str], list[Figures]] = {}
    for job in _jobs(task, options):
        if options.cached and not cache_file(job, options.cache).exists():
            continue
        print(job.name, file=sys.stderr, flush=True)
        try:
            found.setdefault((job.system, job.net), []).append(figures(job, options.cache))
        except PeerError as error:  # said, not left out in silence
            print(f"{job.name}: {error}", file=sys.stderr, flush=True)
            found.pop((job.system, job.net))
    return found


def _jobs(task: str, options: argparse.Namespace) -> Iterator[Job]:
    systems = [] if options.peers_only else [(OURS, options.seeds)]
    fresh = [f"{PEERS[0]}{FRESH}"] if task.endswith("_next") else []
    systems += [] if options.skip_peers else [(peer, 1) for peer in (*PEERS, *fresh)]
    for system, seeds in systems:
        for net in options.nets:
            for seed in range(seeds):
                yield Job(data=options.data, task=task, system=system, net=net, seed=seed)


def _mean(seeds: list[Figures], split: str, metric: str) -> float:
    return mean(found[split][metric] for found in seeds)


def _cell(values: list[float]) -> str:
    spread = f" ({max(values) - min(values):.4f})" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}"


def _header() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return (
        f"# quality, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"`python -m benchmarks.quality`, at commit {commit.stdout.strip()}; Python {platform.python_version()}, "
        f"torch {torch.__version__}.\nTest split; mean over the seeds, in brackets highest less lowest."
    )


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with a folder per task")
    parser.add_argument(
        "--tasks", type=names, default=list(TASKS), help=f"default {','.join(TASKS)}; others by their ending"
    )
    parser.add_argument("--nets", type=names, default=list(NETS), help="default din,dien")
    parser.add_argument("--seeds", type=int, default=3, help="of ours; peers have one")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--peers-only", action="store_true")
    which.add_argument("--skip-peers", action="store_true", help="only recorded figures stand against ours")
    parser.add_argument("--cached", action="store_true", help="train nothing: the table of what is in the cache")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ctr-scorer" / "quality")
    parser.add_argument("--result", type=Path, help="write the page there, as benchmarks/results/quality_...md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
