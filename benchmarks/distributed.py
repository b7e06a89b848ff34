"""Samples per second of training: one process against several that torchrun starts on this machine.

    python -m benchmarks.distributed [--ranks N] [--rounds N] [--net din|dien] [--batch ROWS] [--batches N]

A synthetic log, L = 50, batch 1024, embedding 18, one thread a process. One and several take turns; a round gives one
ratio. Wall time counts what other programs on the machine take as well, so the CPU seconds of all processes together
are told beside it: on free cores, one's over several's is what is left of a linear speed-up. The last line is one JSON
object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.load_process import clean_environ
from model.data.batches import encode_split
from model.data.data_config import DataConfig
from model.data.log import read_log
from model.data.negatives import NegativeSampler
from model.data.synthetic import SyntheticConfig, synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.ranks import joined
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step

ROOT = Path(__file__).parents[1]
WARM = 5  # batches that are not counted
NETS: dict[str, dict[str, object]] = {"din": {"kind": "din"}, "dien": {"kind": "dien", "auxiliary_alpha": 1.0}}


def main() -> None:
    """Run the rounds and print a line each, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--net", choices=sorted(NETS), default="din")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)  # where one of the processes writes
    options = parser.parse_args()
    if options.rank_of:
        measure(options, options.rank_of)
        return
    rounds = []
    for _ in range(options.rounds):
        one, several = (started(options, ranks) for ranks in (1, options.ranks))
        rounds.append((one, several))
        print(f"1 process {one['wall']:8,.0f} samples/s, {options.ranks} processes {several['wall']:8,.0f}", flush=True)
    figures = {
        f"{options.net}_samples_per_s_1": median(one["wall"] for one, _ in rounds),
        f"{options.net}_samples_per_s_{options.ranks}": median(several["wall"] for _, several in rounds),
        f"{options.net}_speed_up": median(several["wall"] / one["wall"] for one, several in rounds),
        f"{options.net}_cpu_efficiency": median(several["cpu"] / one["cpu"] for one, several in rounds),
    }
    print(json.dumps({"benchmark": "distributed", "metrics": figures, "targets": {}}))


def started(options: argparse.Namespace, ranks: int) -> dict[str, float]:
    """Samples per second of wall time, and per CPU second of all processes, of a run of its own."""
    sizes = ["--batch", str(options.batch), "--batches", str(options.batches)]
    worker = ["-m", "benchmarks.distributed", "--net", options.net, *sizes]
    return run_ranks(worker, ranks)


def run_ranks(worker: list[str], ranks: int) -> dict[str, float]:
    """What the first of several processes under torchrun writes into the file behind `--rank-of`."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environ = clean_environ(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with TemporaryDirectory() as folder:
        place = Path(folder) / "figures.json"
        subprocess.run([sys.executable, *torchrun, *worker, "--rank-of", str(place)], env=environ, check=True)
        figures: dict[str, float] = json.loads(place.read_text())
    return figures


def measure(options: argparse.Namespace, place: Path) -> None:
    """Train as one of the ranks; the first one writes what all of them did."""
    batch, batches = options.batch, options.batches
    torch.set_num_threads(1)
    torch.manual_seed(0)
    users = batch * (WARM + batches + 1) // 48 + 1  # 48 of 60 impressions are for training
    sizes = SyntheticConfig(users=users, items=20_000, categories=200, impressions_per_user=60)
    log = read_log(DataConfig(format="synthetic", synthetic=sizes), synthetic_schema(), base=Path())
    encoder = fit_encoder(log, synthetic_schema())
    split = encode_split(log.train, encoder)
    clocks: list[tuple[float, float]] = []

    def report(step: Step) -> None:
        clocks.append((time.perf_counter(), time.process_time()))

    with joined("cpu") as ranks:
        samples = Samples(
            train=split, valid=encode_split(log.valid[:64], encoder), sampler=NegativeSampler(encoder), ranks=ranks
        )
        built = build_net(NETS[options.net], synthetic_schema(), vocabulary_sizes(encoder), file="benchmark")
        train(built, samples, config=TrainConfig(epochs=1, batch_size=batch), report=report)
        (begun, cpu_before), (ended, cpu_after) = clocks[WARM - 1], clocks[WARM + batches - 1]
        cpu = float(ranks.total(torch.tensor(cpu_after - cpu_before, dtype=torch.float64)))
        if ranks.first:
            done = batch * batches
            place.write_text(json.dumps({"wall": done / (ended - begun), "cpu": done / cpu}))


if __name__ == "__main__":
    main()
