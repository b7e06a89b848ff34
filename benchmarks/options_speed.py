"""What options cost: CPU seconds of training batches with an option over those without it, the two in turn.

    python -m benchmarks.options_speed --data FOLDER [--rounds N] [--batches N] [--only TEXT]

The baselines are those of `benchmarks.options`. A ratio above 1 is slower. The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.options import config_of, sample
from benchmarks.options_studies import SPEED, STUDIES
from model.batch_loss import BatchLoss, adapted
from model.config import RunConfig
from model.data.batch_order import batches
from model.data.fresh_negatives import FreshNegatives
from model.data.negatives import NegativeSampler
from model.nets import build_net
from model.optimizer import NetOptimizer, sparse_gradients
from model.pipeline import Prepared, prepare
from model.run_folder import vocabulary_sizes

_WARM_UP = 3  # batches: torch.compile compiles in the first ones


def main() -> None:
    """Compare, print a table and the metrics."""
    options = _options()
    torch.set_num_threads(1)
    print("| option | CPU time of a batch, over the baseline's | lowest and highest of the rounds |\n|---|---|---|")
    metrics = {}
    for label, (study, changes) in SPEED.items():
        if options.only in label:
            base, other = (config_of(STUDIES[study], c, data=options.data) for c in ({}, changes))
            found = ratios(base, other, users=STUDIES[study].users, options=options)
            print(f"| {study}: `{label}` | {median(found):.2f} | {min(found):.2f} to {max(found):.2f} |", flush=True)
            metrics[label] = round(median(found), 3)
    print(json.dumps({"benchmark": "options_speed", "metrics": metrics}))


def ratios(base: RunConfig, other: RunConfig, *, users: int, options: argparse.Namespace) -> list[float]:
    """One ratio per round: the same batches with `other`'s settings and with `base`'s."""
    prepared = prepare(sample(base, users), base)
    sides = [steps(prepared, config) for config in (base, other)]
    for side in sides:
        list(islice(side, _WARM_UP))
    found = []
    for _ in range(options.rounds):
        spent = [sum(islice(side, options.batches)) for side in sides]
        found.append(spent[1] / spent[0])
    return found


def steps(prepared: Prepared, config: RunConfig) -> Iterator[float]:
    """Train batch after batch, without an end; the CPU seconds of each."""
    rng, train = np.random.default_rng(0), prepared.train
    net = build_net(config.net, config.schema, vocabulary_sizes(prepared.encoder), file="options_speed").train()
    fresh = FreshNegatives(prepared.encoder, train) if config.train.fresh_negatives else None
    with sparse_gradients(net), adapted(net, config.train):
        optimizer = NetOptimizer(net, config.train, steps_per_epoch=1)
        loss = BatchLoss(net, config.train, sampler=NegativeSampler(prepared.encoder))
        while True:
            size, bucket = config.train.batch_size, config.train.length_buckets
            for rows in batches(train.lengths, batch_size=size, rng=rng, bucket=bucket):
                started = time.process_time()
                batch = train.take(rows)
                optimizer.step(loss(fresh.redraw(batch, rows, rng) if fresh else batch, rng))
                yield time.process_time() - started


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the logs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="in each round and on each side")
    parser.add_argument("--only", default="", help="options whose label has this text")
    return parser.parse_args()


if __name__ == "__main__":
    main()
