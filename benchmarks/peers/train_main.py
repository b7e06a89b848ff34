"""Train one peer's net on one task through a plain loop: best-validation weights, the test split read once at the end.

One JSON argument: folder, peer, net, seed, history, and optionally epochs, patience, and fresh: other items for the
non-clicks in every epoch, as `train.fresh_negatives` does for ours. Last line: figures as JSON.
"""

import copy
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from benchmarks.peers.train_nets import Batch, PeerNet, Shape, batch_of, build
from model.metrics import all_metrics, auc

BATCH, LEARNING_RATE = 1024, 1e-3
Columns = Mapping[str, NDArray[np.generic]]


def read_split(folder: Path, split: str, *, history: int) -> Columns:
    """The columns of a split as `batch_of` takes them, with the newest `history` behaviors, oldest first."""
    frame = pl.read_parquet(folder / f"{split}.parquet")
    out: dict[str, NDArray[np.generic]] = {"label": frame["label"].to_numpy().astype(np.float32)}
    out |= {name: frame[name].to_numpy().astype(np.int64) for name in ("user_id", "item_id", "cate_id")}
    for name in ("item_id", "cate_id"):
        lists = frame[f"hist_{name}s"].list.tail(history)
        lengths = lists.list.len().to_numpy().astype(np.int64)
        padded = np.zeros((len(frame), history), dtype=np.int64)
        padded[np.arange(history) < lengths[:, None]] = lists.explode().drop_nulls().to_numpy()
        out |= {f"hist_{name}": padded, "length": lengths}
    return out


def categories(columns: Columns, items: int) -> NDArray[np.int64]:
    """Category by item id, as far as the rows and their histories tell it; 0 elsewhere."""
    out = np.zeros(items, dtype=np.int64)
    out[columns["hist_item_id"].ravel()] = columns["hist_cate_id"].ravel()
    out[columns["item_id"]] = columns["cate_id"]
    out[0] = 0
    return out


def refreshed(columns: Columns, items: NDArray[np.int64], rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """The columns with other items where the label is 0: uniformly those of training, none that the user clicked."""
    label, user = columns["label"], columns["user_id"].astype(np.int64) * len(items)
    clicks = user[label == 1] + columns["item_id"][label == 1]
    seen = np.unique(columns["item_id"])
    at = np.flatnonzero(label == 0)
    drawn = columns["item_id"].copy()
    while len(at):
        drawn[at] = rng.choice(seen, size=len(at))
        at = at[np.isin(user[at] + drawn[at], clicks)]
    return {**columns, "item_id": drawn, "cate_id": items[drawn]}


def _predict(net: PeerNet, columns: Columns, items: NDArray[np.int64]) -> NDArray[np.float32]:
    net.module.eval()
    rows = np.arange(len(columns["label"]))
    with torch.inference_mode():
        parts = [
            net.pctr(batch_of(columns, part, items, 0)).numpy() for part in np.array_split(rows, len(rows) // 2000)
        ]
    return np.concatenate(parts)


def _epoch(net: PeerNet, optimizer: torch.optim.Optimizer, batches: "list[Batch]") -> None:
    net.module.train()
    for batch in batches:
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()


def main() -> None:
    """Train and print."""
    given = {"epochs": 10, "patience": 2, "fresh": False, **json.loads(sys.argv[1])}
    folder, history, seed = Path(given["folder"]), given["history"], given["seed"]
    vocab = json.loads((folder / "meta.json").read_text())["vocab"]
    train, valid = (read_split(folder, split, history=history) for split in ("train", "valid"))
    items, rng = categories(train, vocab["item_id"]), np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = build(given["peer"], given["net"], Shape(vocab=vocab, history=history))
    optimizer = torch.optim.Adam(net.module.parameters(), lr=LEARNING_RATE)
    best, best_auc, best_epoch, started = {}, -1.0, 0, time.monotonic()
    for epoch in range(1, given["epochs"] + 1):
        shown = refreshed(train, items, rng) if given["fresh"] else train
        order = rng.permutation(len(train["label"]))
        cuts = range(0, len(order), BATCH)
        _epoch(net, optimizer, (batch_of(shown, order[at : at + BATCH], items, seed + epoch) for at in cuts))
        now = auc(valid["label"], _predict(net, valid, items))
        print(epoch, now, f"{time.monotonic() - started:.0f} s", flush=True)
        if now > best_auc:
            best, best_auc, best_epoch = copy.deepcopy(net.module.state_dict()), now, epoch
        elif epoch - best_epoch >= given["patience"]:
            break
    net.module.load_state_dict(best)
    figures = {"valid": valid, "test": read_split(folder, "test", history=history)}
    metrics = {n: all_metrics(c["label"], _predict(net, c, items), c["user_id"]) for n, c in figures.items()}
    print(json.dumps({**metrics, "best_epoch": best_epoch, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
