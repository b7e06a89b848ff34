"""Memory and CPU time of training with a large table: one process, several with whole tables, several that divide them.

    python -m benchmarks.sharded_tables [--rows N] [--ranks N] [--batches N] [--net din|dien]

A table of items of width 18 whose rows are looked up at random, L = 50, batch 1024, one thread a process. Memory is
what is resident in the largest process above what was before the net was built, TorchRec's packages apart: when there
are weights, both moments and the best weights, and the most it ever was. CPU seconds of a batch are those of all
processes together. Needs the extra `torchrec`. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.distributed import NETS, run_ranks
from model.bundle.encode import Encoder
from model.bundle.schema import FIRST_ID
from model.data.batches import EncodedSplit, encode_split
from model.data.data_config import DataConfig
from model.data.log import read_log
from model.data.negatives import NegativeSampler
from model.data.synthetic import SyntheticConfig, synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.ranks import joined
from model.run_folder import vocabulary_sizes
from model.torchrec_lookup import check_torchrec
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step

BATCH = 1024
MB = 1 << 20


def main() -> None:
    """Run each way once and print a line, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--net", choices=sorted(NETS), default="din")
    parser.add_argument("--divided", type=int, default=0, help=argparse.SUPPRESS)  # train.sharded_rows
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)  # where one of the processes writes
    options = parser.parse_args()
    if options.rank_of:
        measure(options, options.rank_of)
        return
    figures = {"table_mb": options.rows * 18 * 4 / MB}
    ways = {
        "1": (1, 0),
        f"{options.ranks}_whole": (options.ranks, 0),
        f"{options.ranks}_divided": (options.ranks, 1000),
    }
    for name, (ranks, divided) in ways.items():
        told = started(options, ranks, divided)
        print(name, json.dumps(told), flush=True)
        figures |= {f"{key}_{name}": value for key, value in told.items()}
    print(json.dumps({"benchmark": "sharded_tables", "metrics": figures, "targets": {}}))


def started(options: argparse.Namespace, ranks: int, divided: int) -> dict[str, float]:
    """The figures of a run of its own."""
    asked = {"rows": options.rows, "batches": options.batches, "net": options.net, "divided": divided}
    worker = ["-m", "benchmarks.sharded_tables", *(f"--{key}={value}" for key, value in asked.items())]
    return run_ranks(worker, ranks)


def measure(options: argparse.Namespace, place: Path) -> None:
    """Train as one of the ranks; the first one writes what all of them did."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder, samples = material(options)
    bare, seen = resident(), list[tuple[float, float]]()
    if options.divided:
        check_torchrec()  # imports it

    def report(step: Step) -> None:
        seen.append((time.process_time(), resident()))

    with joined("cpu") as ranks:
        before = resident()
        sizes = vocabulary_sizes(encoder) | {"item_id": options.rows}
        net = build_net(NETS[options.net], synthetic_schema(), sizes, file="benchmark")
        config = TrainConfig(epochs=1, batch_size=BATCH, evaluations_per_epoch=2, sharded_rows=options.divided)
        train(net, dataclasses.replace(samples, ranks=ranks), config=config, report=report)
        half = len(seen) // 2
        cpu = (seen[-1][0] - seen[half][0]) / (len(seen) - 1 - half)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        mine = torch.tensor([cpu, seen[-2][1] - before, peak - before, before - bare], dtype=torch.float64)
        cpus, training, peaks, packages = ranks.every(mine).unbind(1)
        if ranks.first:
            told = {"training_mb": training.max(), "peak_mb": peaks.max(), "packages_mb": packages.max()}
            told["batch_cpu_s"] = cpus.sum()
            place.write_text(json.dumps({name: float(value) for name, value in told.items()}))


def material(options: argparse.Namespace) -> tuple[Encoder, Samples]:
    """A synthetic log of the asked size, with items drawn from all rows of the table."""
    users = BATCH * options.batches // 48 + 1  # 48 of 60 impressions are for training
    synthetic = SyntheticConfig(users=users, items=5000, categories=50, impressions_per_user=60)
    log = read_log(DataConfig(format="synthetic", synthetic=synthetic), synthetic_schema(), base=Path())
    encoder, rng = fit_encoder(log, synthetic_schema()), np.random.default_rng(0)
    return encoder, Samples(
        train=spread(encode_split(log.train[: BATCH * options.batches], encoder), options.rows, rng),
        valid=spread(encode_split(log.valid[:64], encoder), options.rows, rng),
        sampler=NegativeSampler(encoder),
    )


def spread(split: EncodedSplit, rows: int, rng: np.random.Generator) -> EncodedSplit:
    """The split with items drawn from all rows of the table."""
    schema = synthetic_schema()
    item = next(i for i, feature in enumerate(schema.sparse("item")) if feature.name == "item_id")
    behavior = next(i for i, sequence in enumerate(schema.behavior) if sequence.shares == "item_id")
    items, history = dict(split.items), split.history.copy()
    items["item_sparse"] = items["item_sparse"].copy()
    items["item_sparse"][:, item] = rng.integers(FIRST_ID, rows, len(split))
    history[:, behavior] = rng.integers(FIRST_ID, rows, len(history))
    return dataclasses.replace(split, items=items, history=history)


def resident() -> float:
    """MB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MB


if __name__ == "__main__":
    main()
