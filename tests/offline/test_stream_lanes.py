"""Lanes: processes that each read their own rows of a log in shards make the batches of one that reads them all."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle.encode import Tensors
from model.bundle.errors import ConfigError
from model.data.batches import EncodedSplit, encode_split
from model.data.lanes import Lanes, lanes_of
from model.data.log import Log
from model.data.rows import Drawn
from model.data.sharded_split import ShardedSplit
from model.data.shards import Shards, ShardWriter, read_shards
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder

SHARDS, ROWS, WINDOW = 5, 403, 90


@dataclass(frozen=True, kw_only=True)
class Counted(Shards):
    """Shards that remember how many rows each read was of."""

    reads: list[int] = field(default_factory=list)

    def read(self, cuts):
        out = super().read(cuts)
        self.reads.append(len(out))
        return out


@pytest.fixture(scope="module")
def whole(small_log: Log) -> EncodedSplit:
    return encode_split(small_log.train, fit_encoder(small_log, synthetic_schema())).between(0, ROWS)


@pytest.fixture(scope="module")
def written(whole: EncodedSplit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lanes")
    writer = ShardWriter(folder, shards=SHARDS, rng=np.random.default_rng(0))
    writer.append(whole, np.arange(ROWS))
    writer.close()
    return folder


def split_of(folder: Path, lanes: Lanes | None = None) -> ShardedSplit:
    """The shards as one process reads them, each read noted."""
    return ShardedSplit(Counted(**vars(read_shards(folder))), window_rows=WINDOW, lanes=lanes)


def epoch(split: ShardedSplit, *, size: int, seed: int, bucket: bool) -> list[Drawn]:
    return list(split.order(batch_size=size, rng=np.random.default_rng(seed), bucket=bucket))


def assert_same_rows(expected: Tensors, found: Tensors) -> None:
    """The padding apart, which is that of the longest history of the rows that are held."""
    length = found["history"].shape[1]
    assert not expected["history"][:, length:].any()
    for name, tensor in {**expected, "history": expected["history"][:, :length]}.items():
        np.testing.assert_array_equal(tensor, found[name])


@settings(deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 200), seed=st.integers(0, 2**32), bucket=st.booleans(), ranks=st.sampled_from([1, 2, 3, 6]))
def test_processes_together_make_the_batches_of_one(
    written: Path, size: int, seed: int, bucket: bool, ranks: int
) -> None:
    """Whoever takes the six lanes: every batch has its rows in the same places, some of each lane, and all say how many
    there are; an epoch has every row once, in no more steps than were promised.
    """
    one = epoch(split_of(written, lanes_of(6, rank=0, ranks=1)), size=size, seed=seed, bucket=bucket)
    splits = [split_of(written, lanes_of(6, rank=rank, ranks=ranks)) for rank in range(ranks)]
    several = [epoch(split, size=size, seed=seed, bucket=bucket) for split in splits]

    assert list(range(ROWS)) == sorted(itertools.chain(*(drawn.rows for drawn in one)))
    assert max(drawn.size for drawn in one) <= max(size, 12)
    assert all(len(one) == len(drawn) for drawn in several)
    for batch, *parts in zip(one, *several, strict=True):
        assert [batch.size] * ranks == [part.size for part in parts]
        assert batch.rows.tolist() == [row for part in parts for row in part.rows]
        assert [batch.rows[part.held].tolist() for part in parts] == [part.rows.tolist() for part in parts]
        assert all(len(part.rows[at]) for part in parts for at in part.places.values())
        places = {lane: part.rows[at].tolist() for part in parts for lane, at in part.places.items()}
        assert {lane: batch.rows[at].tolist() for lane, at in batch.places.items()} == places


def test_what_is_drawn_for_a_lane_does_not_depend_on_who_holds_it(written: Path) -> None:
    """Negatives of an auxiliary loss come from a lane's own generator, and the run's goes on alike everywhere."""
    drawn = [
        epoch(split_of(written, lanes), size=50, seed=0, bucket=True)[0]
        for lanes in (Lanes(2, range(2)), Lanes(2, range(1, 2)))
    ]
    rngs = [np.random.default_rng(1) for _ in drawn]
    (_, (_, second)), ((_, alone),) = (batch.lanes(rng) for batch, rng in zip(drawn, rngs, strict=True))

    assert second.integers(100, size=9).tolist() == alone.integers(100, size=9).tolist()
    assert rngs[0].bit_generator.state == rngs[1].bit_generator.state


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_reads_its_own_lane_and_no_other_row(written: Path, rank: int) -> None:
    """Half of the rows in an epoch, and never more in memory than the window of a process that trains alone."""
    mine, one = (split_of(written, lanes) for lanes in (Lanes(2, range(rank, rank + 1)), Lanes(2, range(2))))
    batches = [
        (mine.take(part.rows), one.take(batch.rows[part.held]))
        for part, batch in zip(*(epoch(s, size=40, seed=3, bucket=False) for s in (mine, one)), strict=True)
    ]

    for found, expected in batches:
        assert_same_rows(expected, found)
    assert abs(sum(mine.shards.reads) - ROWS / 2) <= len(mine.shards.reads)
    assert max(mine.shards.reads) <= WINDOW
    assert ROWS == sum(one.shards.reads)


def test_rows_of_another_lane_are_refused(written: Path) -> None:
    """They are not in memory."""
    first, second = (split_of(written, Lanes(2, range(rank, rank + 1))) for rank in range(2))
    theirs = epoch(second, size=50, seed=0, bucket=False)[0].rows
    epoch(first, size=50, seed=0, bucket=False)

    with pytest.raises(ValueError, match="another process"):
        first.take(theirs)


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_readers_divide_what_is_scored_and_counted(written: Path, readers: int) -> None:
    """The same batches for any number of readers, each row once; nobody reads more than a window's rows at a time."""
    one = [rows.tolist() for rows, _ in split_of(written).scan(20)]
    splits = [split_of(written) for _ in range(readers)]
    scanned = [list(split.scan(20, reader=i, readers=readers)) for i, split in enumerate(splits)]

    assert one == [rows.tolist() for batches in scanned for rows, _ in batches]
    assert list(range(ROWS)) == sorted(itertools.chain(*one))
    assert ROWS == sum(sum(split.shards.reads) for split in splits)
    assert all(max(split.shards.reads) <= WINDOW for split in splits)
    label = split_of(written).label
    for rows, tensors in itertools.chain(*scanned):
        np.testing.assert_array_equal(label[rows], tensors["label"])
    parts = [part.label for i, split in enumerate(splits) for part in split.parts(i, readers)]
    np.testing.assert_array_equal(label, np.concatenate(parts))
    assert max(map(len, parts)) <= WINDOW


def test_rows_are_read_from_the_middle_of_shards(written: Path, whole: EncodedSplit) -> None:
    """Any range of rows, over the border of two shards, with their histories."""
    split = split_of(written)
    numbers = split.shards.column("activity")
    for start, stop in ((0, 1), (7, 95), (79, 82), (400, ROWS)):
        found = split.shards.read(split.shards.cuts(range(SHARDS), slice(start, stop)))

        assert_same_rows(whole.take(numbers[start:stop]), found.take(np.arange(stop - start)))


def test_lanes_that_cannot_be_divided_are_refused(written: Path) -> None:
    """Equally among the processes; and a window has a row for each."""
    with pytest.raises(ConfigError, match=r"data\.lanes: found 3, allowed: a multiple of 2"):
        lanes_of(3, rank=0, ranks=2)
    with pytest.raises(ConfigError, match=r"data\.lanes"):
        split_of(written, Lanes(5000, range(5000))).steps(64)
    assert lanes_of(0, rank=2, ranks=3) == Lanes(3, range(2, 3))
