"""Samples per second of training: our DIN and DIEN beside torch-rechub's and deepctr-torch's.

    python -m benchmarks.train_speed --data FOLDER [--threads 1|2] [--seconds N] [--rounds N] [--clock wall|cpu]
        [--result FILE]

FOLDER holds the tasks; `ml100k_rating` is used, L = 50, batch 1024, embedding 16, attention 80-40, head 200-80, user id
included. Every system is a process of its own that waits while another one trains; they take turns, and a round gives
one ratio. On a machine that others use, `--clock cpu` counts each process's CPU seconds instead. FuxiCTR, whose package
ships no nets, stands in by its recorded ratio to torch-rechub. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch

from benchmarks.load_process import clean_environ
from benchmarks.train_peers import PEERS, ROOT, install

OURS = "ours"
NETS = ("din", "dien")
TASK, HISTORY = "ml100k_rating", 50
FUXICTR = {"din": 1.9, "dien": 0.75}  # its samples/s over torch-rechub's, recorded on the same task and batch
TARGETS = {"din_over_best_peer": (">=", 3.0), "dien_over_best_peer": (">=", 5.0)}
Rates = Mapping[str, list[float]]  # samples/s by system, one figure a round


class Trainer:
    """A process that trains when it is told to."""

    def __init__(self, system: str, net: str, options: argparse.Namespace) -> None:
        self._clock = options.clock
        settings = {"folder": str(options.data / TASK), "system": system, "net": net, "history": HISTORY}
        environ = clean_environ(os.environ) | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(install())]),
            "OMP_NUM_THREADS": str(options.threads),
            "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody: deepctr-torch asks the network for its newest version
        }
        command = [sys.executable, "-m", "benchmarks.peers.speed_main"]
        self._process = subprocess.Popen(
            [*command, json.dumps({**settings, "threads": options.threads})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environ,
        )

    def ready(self) -> None:
        """Wait until the net is built and has trained a few batches. Raises RuntimeError if it ends before."""
        while (line := self._read()) != "ready":
            if not line:
                raise RuntimeError(f"{self._process.args} ended")

    def train(self, seconds: float) -> float:
        """Samples per second over about so many seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        done = json.loads(self._read())
        return float(done["rows"] / done[self._clock])

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def measure(net: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Samples/s of every system, one figure a round."""
    trainers: dict[str, Trainer] = {}
    try:
        for system in (OURS, *PEERS):
            trainers[system] = Trainer(system, net, options)
            trainers[system].ready()
        rounds = [{s: t.train(options.seconds) for s, t in trainers.items()} for _ in range(options.rounds)]
    finally:
        for trainer in trainers.values():
            trainer.stop()
    return {system: [rates[system] for rates in rounds] for system in trainers}


def over_best_peer(rates: Rates, net: str) -> float:
    """Median over the rounds of our rate over the fastest peer's in the same round, FuxiCTR's stand-in included."""
    stand_in = [FUXICTR[net] * rate for rate in rates["torch-rechub"]]
    best = [max(peers) for peers in zip(*(rates[peer] for peer in PEERS), stand_in, strict=True)]
    return median(ours / peer for ours, peer in zip(rates[OURS], best, strict=True))


def page(results: Mapping[str, Rates], figures: Mapping[str, float], options: argparse.Namespace) -> str:
    """The result as Markdown."""
    head = (
        f"torch {torch.__version__}, Python {platform.python_version()}, {options.threads} threads of {os.cpu_count()}"
    )
    lines = [
        "# Training speed",
        "",
        f"`python -m benchmarks.train_speed --threads {options.threads} --seconds {options.seconds:g} "
        f"--rounds {options.rounds} --clock {options.clock}`, {datetime.now(UTC):%Y-%m-%d}, {head}, "
        f"commit {_commit()}.",
        f"{TASK}, histories of at most {HISTORY}, batch 1024, embedding 16, attention 80-40, head 200-80, user id in.",
        "Samples per second: median over the rounds (lowest to highest). Ratio: median of the rounds' ratios.",
        "",
        "| net | system | samples/s | ours is faster by |",
        "|---|---|---|---|",
    ]
    for net, rates in results.items():
        for system, found in rates.items():
            ratio = median(a / b for a, b in zip(rates[OURS], found, strict=True))
            spread = f"{median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"
            lines.append(f"| {net} | {system} | {spread} | {ratio:.2f} |")
        stand_in = FUXICTR[net] * median(rates["torch-rechub"])
        ratio = median(a / (FUXICTR[net] * b) for a, b in zip(rates[OURS], rates["torch-rechub"], strict=True))
        lines.append(f"| {net} | FuxiCTR (recorded: {FUXICTR[net]} x torch-rechub) | {stand_in:,.0f} | {ratio:.2f} |")
    lines += ["", "| figure | value | target |", "|---|---|---|"]
    lines += [f"| {name} | {value:.2f} | {' '.join(map(str, TARGETS[name]))} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip() or "unknown"


def main() -> None:
    """Measure, and print the page and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CTR_DATA", "../shared/data")) / "tasks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    results = {net: measure(net, options) for net in NETS}
    figures = {f"{net}_over_best_peer": over_best_peer(rates, net) for net, rates in results.items()}
    text = page(results, figures, options)
    if options.result is not None:
        options.result.write_text(text)
    print(text)
    print(json.dumps({"benchmark": "train_speed", "metrics": figures, "targets": TARGETS}))


if __name__ == "__main__":
    main()
