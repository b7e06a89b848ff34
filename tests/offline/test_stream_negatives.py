"""Non-clicks of a log in shards: fewer of them, and drawn anew, as of a log in memory."""

from pathlib import Path

import numpy as np
import pytest

from model.bundle.encode import Encoder
from model.bundle.schema import UNKNOWN
from model.data.batches import EncodedSplit, encode_split
from model.data.clicked_pairs import clicked_pairs, open_clicked_pairs, write_clicked_pairs
from model.data.downsample import downsampled_shards
from model.data.fresh_negatives import FreshNegatives
from model.data.lanes import lanes_of
from model.data.log import Log
from model.data.sharded_split import ShardedSplit
from model.data.shards import Shards, ShardWriter, read_shards
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder

SHARDS, TOGETHER, RATE = 7, 3, 0.3


@pytest.fixture(scope="module")
def encoder(small_log: Log) -> Encoder:
    return fit_encoder(small_log, synthetic_schema())


@pytest.fixture(scope="module")
def whole(small_log: Log, encoder: Encoder) -> EncodedSplit:
    return encode_split(small_log.train, encoder)


@pytest.fixture(scope="module")
def shards(whole: EncodedSplit, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """The split in seven shards; the number of a row stands for its activity, so rows are known again."""
    folder = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder, shards=SHARDS, rng=np.random.default_rng(0))
    writer.append(whole, np.arange(len(whole)))
    writer.close()
    return read_shards(folder)


def numbers(shards: Shards) -> list[int]:
    return shards.column("activity").tolist()


def test_every_click_stays_and_a_share_of_the_rest(shards: Shards, whole: EncodedSplit) -> None:
    """The same seed keeps the same rows, whoever reads them and in whatever windows; another seed keeps others."""
    kept = downsampled_shards(shards, rate=RATE, seed=1)
    at = np.array(numbers(kept))

    assert (whole.label[at] == 1).sum() == whole.label.sum()
    others = len(whole) - int(whole.label.sum())
    assert abs((whole.label[at] == 0).sum() - RATE * others) < 5 * np.sqrt(others * RATE * (1 - RATE))
    assert len(at) == kept.rows.sum()
    assert whole.lengths[at].sum() == kept.behaviors.sum()
    assert numbers(downsampled_shards(shards, rate=RATE, seed=1)) == at.tolist()
    assert numbers(downsampled_shards(shards, rate=RATE, seed=2)) != at.tolist()
    split = ShardedSplit(kept, window_rows=len(at))
    shares = [part.label for reader in range(2) for part in split.parts(reader, 2)]
    assert np.concatenate(shares).tolist() == split.label.tolist()
    assert downsampled_shards(shards, rate=1.0, seed=1) is shards


@pytest.mark.parametrize(("bucket", "readers"), [(False, 1), (True, 1), (False, 3)])
def test_an_epoch_has_every_kept_row_once(shards: Shards, whole: EncodedSplit, bucket: bool, readers: int) -> None:
    """Over all processes that read their lanes; each batch holds what the rows held in memory, no window has more rows
    than asked for.
    """
    kept = downsampled_shards(shards, rate=RATE, seed=1)
    all_rows = []
    for rank in range(readers):
        lanes = lanes_of(0, rank=rank, ranks=readers)
        sharded = ShardedSplit(kept, window_rows=TOGETHER * int(kept.rows.max()), lanes=lanes)
        all_rows += check_epoch(sharded, whole, bucket=bucket)
    assert list(range(len(sharded))) == sorted(all_rows)


def check_epoch(sharded: ShardedSplit, whole: EncodedSplit, *, bucket: bool) -> list[int]:
    """What a process takes in an epoch is right; the numbers of its rows."""
    kept = sharded.shards
    at = np.array(numbers(kept))
    order = [drawn.rows for drawn in sharded.order(batch_size=64, rng=np.random.default_rng(0), bucket=bucket)]

    assert abs(len(order) - sharded.steps(64)) <= SHARDS // TOGETHER + 1
    assert max(len(part) for part in sharded.parts()) <= TOGETHER * kept.rows.max()
    for rows in order:
        expected, found = whole.take(at[rows]), sharded.take(rows)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tensor, found[name])
        np.testing.assert_array_equal(whole.user[at[rows]], sharded.users(rows))
    times = whole.timestamp[at]
    assert (times.min(), times.max()) == sharded.span()
    return np.concatenate(order).tolist()


@pytest.mark.parametrize("bucket_rows", [1 << 22, 50])
def test_who_clicked_what_is_on_disk_as_in_memory(
    shards: Shards, whole: EncodedSplit, encoder: Encoder, bucket_rows: int
) -> None:
    """Sorted and each pair once, in one bucket or in many; nothing else is left in the folder."""
    before = sorted(path.name for path in shards.folder.iterdir())
    write_clicked_pairs(shards, encoder, bucket_rows=bucket_rows)
    found = open_clicked_pairs(shards.folder)

    np.testing.assert_array_equal(clicked_pairs(whole, encoder), found)
    clicked = whole.label == 1
    pairs = zip(whole.user[clicked].tolist(), encoder.item_index(whole.items)[clicked].tolist(), strict=True)
    assert len(found) == len(set(pairs))
    assert sorted({*before, "clicked.npy"}) == sorted(path.name for path in shards.folder.iterdir())


def test_nobody_clicked_anything(whole: EncodedSplit, encoder: Encoder, tmp_path: Path) -> None:
    """Then any item may be drawn."""
    rows = np.flatnonzero(whole.label == 0)
    writer = ShardWriter(tmp_path, shards=2, rng=np.random.default_rng(0))
    writer.append(whole.rows(rows), rows)
    writer.close()
    write_clicked_pairs(read_shards(tmp_path), encoder)
    sharded = ShardedSplit(read_shards(tmp_path), window_rows=len(rows))
    fresh = FreshNegatives(encoder, sharded, clicked=open_clicked_pairs(tmp_path))

    drawn = fresh.redraw(sharded.take(np.arange(500)), np.arange(500), np.random.default_rng(0))

    assert len(np.unique(encoder.item_index({"item_sparse": drawn["item_sparse"][:, 0]}))) > 10


def test_drawn_items_are_known_and_not_clicked(shards: Shards, whole: EncodedSplit, encoder: Encoder) -> None:
    """By nobody's clicks anywhere in the split; the draws are those of the same rows in memory, and of the seed."""
    write_clicked_pairs(shards, encoder)
    sharded = ShardedSplit(shards, window_rows=TOGETHER * int(shards.rows.max()))
    fresh = FreshNegatives(encoder, sharded, clicked=open_clicked_pairs(shards.folder))
    in_memory, at = FreshNegatives(encoder, whole), np.array(numbers(shards))
    clicked = whole.label == 1
    items = encoder.item_index(whole.items)
    clicks = set(zip(whole.user[clicked].tolist(), items[clicked].tolist(), strict=True))
    drawn = 0

    for i, batch_rows in enumerate(sharded.order(batch_size=256, rng=np.random.default_rng(3), bucket=False)):
        rows = batch_rows.rows
        batch = sharded.take(rows)
        found = fresh.redraw(batch, rows, np.random.default_rng(i))
        expected = in_memory.redraw(whole.take(at[rows]), at[rows], np.random.default_rng(i))
        np.testing.assert_array_equal(expected["item_sparse"], found["item_sparse"])
        index = encoder.item_index({"item_sparse": found["item_sparse"][:, 0]})[batch["label"] == 0]
        assert (index != UNKNOWN).all()
        users = sharded.users(rows)[batch["label"] == 0]
        assert not clicks & set(zip(users.tolist(), index.tolist(), strict=True))
        drawn += len(index)
    assert drawn == len(whole) - int(whole.label.sum())
