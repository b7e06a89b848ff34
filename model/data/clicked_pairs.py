"""Who clicked what in training, as sorted numbers: one array in memory, or one file of which only looked-up pages are
read.

A pair is hashed to 64 bits, so that it takes 8 bytes and a file is sorted bucket by bucket, by the highest bits. Two of
n pairs share a number with a chance of about n^2 / 2^65; then an item that was not clicked passes for one that was.
"""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids, mixed
from model.data.npy_files import NpyAppender
from model.data.rows import Split
from model.data.shards import Cut, Shards

Pairs = NDArray[np.uint64]
_FILE = "clicked"
_MOST_BITS = 10


def pairs_of(users: Ids, items: Ids) -> Pairs:
    """[N] the numbers of pairs of a user and the index of an item."""
    return mixed(mixed(users.astype(np.uint64)) + items.astype(np.uint64))


def clicked_pairs(train: Split, encoder: Encoder) -> Pairs:
    """The distinct pairs of a split's clicked rows, ascending."""
    clicked = [
        pairs_of(part.user[part.label == 1], encoder.item_index(part.items)[part.label == 1]) for part in train.parts()
    ]
    return np.unique(np.concatenate(clicked))


def write_clicked_pairs(shards: Shards, encoder: Encoder, *, bucket_rows: int = 1 << 22) -> None:
    """Write `clicked_pairs` of all shards beside them.

    In memory are a shard's columns, and then a bucket, which has at most about `bucket_rows` pairs.
    """
    bits = min(max(int(shards.rows.sum() // bucket_rows).bit_length(), 0), _MOST_BITS)
    scratch = shards.folder / ".clicked"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        for cut in shards.whole():
            _to_buckets(_of_shard(shards, cut, encoder), bits, scratch)
        file = NpyAppender(shards.folder)
        file.append({_FILE: np.empty(0, dtype=np.uint64)})
        for bucket in sorted(scratch.iterdir()):
            file.append({_FILE: np.unique(np.fromfile(bucket, dtype=np.uint64))})
        file.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def open_clicked_pairs(folder: Path) -> Pairs:
    """What `write_clicked_pairs` wrote, mapped. Raises ConfigError if it is not there."""
    path = folder / f"{_FILE}.npy"
    if not path.is_file():
        allowed = "a log that is prepared anew: this one was prepared before it was needed"
        raise ConfigError(file=str(path), key="(file)", found="no such file", allowed=allowed)
    return np.asarray(np.load(path, mmap_mode="r"))


def _of_shard(shards: Shards, cut: Cut, encoder: Encoder) -> Pairs:
    clicked = shards.column("label", [cut]) == 1
    items = encoder.item_index({"item_sparse": shards.column("items.item_sparse", [cut])[clicked]})
    return pairs_of(shards.column("user", [cut])[clicked].astype(np.int64), items)


def _to_buckets(pairs: Pairs, bits: int, scratch: Path) -> None:
    """Append the pairs to a file per value of their highest bits."""
    pairs = np.sort(pairs)
    firsts = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits if bits else 0)
    borders = np.searchsorted(pairs, firsts)
    for bucket, part in enumerate(np.split(pairs, borders)):
        if len(part):
            with (scratch / f"{bucket:04}").open("ab") as file:
                file.write(part.tobytes())
