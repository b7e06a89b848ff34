"""Train one net, ours or a peer's, for as many batches as each line of standard input says; the seconds as JSON.

One JSON argument: folder, system, net, history, threads. Peers get batches that were made beforehand; ours come out of
the training loop as they do in `ctr-model train`: cut, encoded negatives drawn, trained.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.train_main import categories, read_split
from benchmarks.peers.train_nets import Shape, batch_of, build
from model.batch_loss import BatchLoss
from model.bundle.schema import schema_from_table
from model.data.batch_order import batches
from model.data.batches import EncodedSplit, encode_split
from model.data.log import DataConfig, read_log
from model.data.negatives import NegativeSampler
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.optimizer import NetOptimizer, sparse_gradients
from model.run_folder import vocabulary_sizes
from model.train_config import TrainConfig

OURS = "ours"  # as in benchmarks.train_speed
BATCH, LEARNING_RATE, DIM = 1024, 1e-3, 16
MADE = 24  # batches of the peers that are made beforehand
Step = Callable[[], int]  # trains a batch and returns its rows


def schema_table(history: int) -> dict[str, object]:
    """User id, item and category, and the history of both: what the peers get (`train_nets`)."""
    keys = {"user": "user_id", "item": "item_id", "category": "cate_id", "label": "label", "timestamp": "timestamp"}
    behavior = [{"shares": name, "column": f"hist_{name}s"} for name in ("item_id", "cate_id")]
    item = [{"name": name, "dim": DIM} for name in ("item_id", "cate_id")]
    user = [{"name": "user_id", "dim": DIM}]
    return {"max_history": history, "keys": keys, "user": user, "item": item, "behavior": behavior}


def our_step(folder: Path, kind: str, *, history: int) -> Step:
    """One step of our training loop, at the default settings."""
    schema = schema_from_table(schema_table(history), file="train_speed")
    log = read_log(DataConfig(format="task", path=folder), schema, base=Path())
    encoder = fit_encoder(log, schema)
    split, rng, config = encode_split(log.train, encoder), np.random.default_rng(0), TrainConfig(batch_size=BATCH)
    net = build_net({"kind": kind}, schema, vocabulary_sizes(encoder), file="train_speed").train()
    optimizer = NetOptimizer(net, config, steps_per_epoch=-(-len(split) // BATCH))
    loss = BatchLoss(net, config, sampler=NegativeSampler(encoder))
    rows = _forever(split, rng)

    def step() -> int:
        taken = next(rows)
        with sparse_gradients(net):
            optimizer.step(loss(split.take(taken), rng))
        return len(taken)

    return step


def _forever(split: EncodedSplit, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        yield from (
            rows for rows in batches(split.lengths, batch_size=BATCH, rng=rng, bucket=False) if len(rows) == BATCH
        )


def peer_step(folder: Path, system: str, kind: str, *, history: int) -> Step:
    """One step of a plain loop over the peer's own net and loss."""
    vocab = json.loads((folder / "meta.json").read_text())["vocab"]
    columns = read_split(folder, "train", history=history)
    items = categories(columns, vocab["item_id"])
    order = np.random.default_rng(0).permutation(len(columns["label"]))
    made = [batch_of(columns, order[i * BATCH : (i + 1) * BATCH], items, 0) for i in range(MADE)]
    net = build(system, kind, Shape(vocab=vocab, history=history, dim=DIM))
    optimizer = torch.optim.Adam(net.module.parameters(), lr=LEARNING_RATE)
    net.module.train()
    endless = cycle(made)

    def step() -> int:
        batch = next(endless)
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
        return len(batch["label"])

    return step


def main() -> None:
    """Answer every line until there are no more."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    folder, system, kind, history = Path(given["folder"]), given["system"], given["net"], given["history"]
    ours = system == OURS
    step = our_step(folder, kind, history=history) if ours else peer_step(folder, system, kind, history=history)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu, rows = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - wall < float(line):
            rows += step()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps({"rows": rows, **spent}), flush=True)


if __name__ == "__main__":
    main()
