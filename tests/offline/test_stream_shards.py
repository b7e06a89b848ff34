"""Shards hold every row once, are read within bounds, and train, stop and go on like rows in memory."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.checkpoint import Checkpoints
from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.npy_files import NpyAppender
from model.data.sharded_split import ShardedSplit
from model.data.shards import ShardWriter, read_shards
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.evaluate import predict_logit
from model.metrics import auc
from model.nets import Net, build_net
from model.regularisation import impressions_by_table
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step, Training

SHARDS, TOGETHER = 7, 3
NET = {"kind": "dien", "attention": [8], "head": [16], "dropout": 0.3, "auxiliary_alpha": 0.5}


@pytest.fixture(scope="module")
def encoder(small_log: Log) -> Encoder:
    return fit_encoder(small_log, synthetic_schema())


@pytest.fixture(scope="module")
def whole(small_log: Log, encoder: Encoder) -> EncodedSplit:
    return encode_split(small_log.train, encoder)


@pytest.fixture(scope="module")
def written(whole: EncodedSplit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The split in seven shards, dealt in three appends of different length."""
    folder = tmp_path_factory.mktemp("shards")
    writer = ShardWriter(folder, shards=SHARDS, rng=np.random.default_rng(0))
    for part in np.split(np.arange(len(whole)), [100, 105]):
        writer.append(whole.rows(part), part)  # its number stands for the activity: so rows are known again
    writer.close()
    return folder


@pytest.fixture
def sharded(written: Path) -> ShardedSplit:
    """Three of the shards fit the memory."""
    shards = read_shards(written)
    return ShardedSplit(shards, window_rows=TOGETHER * int(shards.rows.max()))


def numbers(sharded: ShardedSplit) -> np.ndarray:
    """The number that each row on disk had in memory."""
    return sharded.shards.column("activity").astype(np.int64)


def test_every_row_is_in_one_shard_and_all_shards_are_alike(sharded: ShardedSplit, whole: EncodedSplit) -> None:
    """Rows per shard differ by one at most; what is read back is what was written, byte by byte."""
    at = numbers(sharded)

    assert list(range(len(whole))) == sorted(at.tolist())
    assert sharded.shards.rows.max() - sharded.shards.rows.min() <= 1
    everything = list(sharded.parts())
    assert [TOGETHER, TOGETHER, 1] == [round(len(part) / sharded.shards.rows[0]) for part in everything]
    read = 0
    for part in everything:
        rows = np.arange(len(part))
        expected, found = whole.take(at[read : read + len(part)]), part.take(rows)
        for name, tensor in expected.items():
            assert tensor.dtype == found[name].dtype
            np.testing.assert_array_equal(tensor, found[name])
        read += len(part)
    np.testing.assert_array_equal(whole.label[at], sharded.label)
    np.testing.assert_array_equal(whole.user[at], sharded.user)
    np.testing.assert_array_equal(whole.lengths[at], sharded.lengths)
    assert (int(whole.timestamp.min()), int(whole.timestamp.max())) == sharded.span()


@settings(deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 700), seed=st.integers(0, 2**32), bucket=st.booleans())
def test_an_epoch_has_every_row_once_and_never_two_windows_at_a_time(
    sharded: ShardedSplit, size: int, seed: int, bucket: bool
) -> None:
    """The same seed gives the same batches and the next epoch others; a window is finished before the next begins."""

    def epoch(rng: np.random.Generator) -> list[np.ndarray]:
        return [drawn.rows for drawn in sharded.order(batch_size=size, rng=rng, bucket=bucket)]

    first, again = (epoch(np.random.default_rng(seed)) for _ in range(2))
    rng = np.random.default_rng(seed)
    _, second = (epoch(rng) for _ in range(2))

    assert list(range(len(sharded))) == sorted(itertools.chain(*first))
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in again]
    assert [rows.tolist() for rows in first] != [rows.tolist() for rows in second]
    assert max(map(len, first)) <= size
    starts = np.concatenate([[0], np.cumsum(sharded.shards.rows)])
    touched = [frozenset(np.searchsorted(starts, rows, side="right") - 1) for rows in first]
    seen: list[set[int]] = []
    for shards in touched:
        if not seen or not shards & seen[-1]:
            seen.append(set())
        seen[-1] |= shards
    windows = math.ceil(SHARDS / TOGETHER)
    assert len(first) >= windows
    assert abs(len(first) - sharded.steps(size)) <= windows


def test_rows_of_two_windows_are_refused(sharded: ShardedSplit) -> None:
    """Loading one of them would drop the other."""
    with pytest.raises(ValueError, match="several windows"):
        sharded.take(np.array([0, len(sharded) - 1]))


def test_equal_shards_have_equal_digests(sharded: ShardedSplit, written: Path, whole: EncodedSplit, tmp_path: Path):
    """Another row, or another deal, has another."""
    digests = []
    for seed, rows in ((0, len(whole)), (0, len(whole)), (1, len(whole)), (0, len(whole) - 1)):
        folder = tmp_path / str(len(digests))
        writer = ShardWriter(folder, shards=2, rng=np.random.default_rng(seed))
        writer.append(whole.rows(np.arange(rows)), np.zeros(rows, dtype=np.int64))
        writer.close()
        digests.append(ShardedSplit(read_shards(folder), window_rows=10).digest())

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_shards_that_are_not_complete_are_refused(tmp_path: Path) -> None:
    """A writer that never closed leaves no list of shards."""
    with pytest.raises(ConfigError, match="prepare --shards"):
        read_shards(tmp_path)


def test_an_npy_file_grows(tmp_path: Path) -> None:
    """Any reader of `.npy` reads what was appended piece by piece, an empty piece included."""
    file = NpyAppender(tmp_path)
    pieces = [np.arange(6, dtype=np.int32).reshape(3, 2), np.empty((0, 2), dtype=np.int32), np.ones((1, 2), np.int32)]
    for piece in pieces:
        file.append({"pairs": piece})
    file.close()

    np.testing.assert_array_equal(np.concatenate(pieces), np.load(tmp_path / "pairs.npy"))


def test_counts_and_scores_are_those_of_rows_in_memory(
    sharded: ShardedSplit, whole: EncodedSplit, encoder: Encoder
) -> None:
    """Impressions by id for embedding_l2, and a net's logits, part by part."""
    schema, sizes = synthetic_schema(), vocabulary_sizes(encoder)
    torch.manual_seed(0)
    net = build_net({"kind": "din", "attention": [8], "head": [16]}, schema, sizes, file="test")

    counted = impressions_by_table(sharded, schema, sizes)
    for name, counts in impressions_by_table(whole, schema, sizes).items():
        torch.testing.assert_close(counts, counted[name])
    expected = predict_logit(net, whole)[numbers(sharded)]
    np.testing.assert_allclose(expected, predict_logit(net, sharded), atol=1e-6)


class Killed(Exception):
    """Stands for the end of the process."""


def trained(samples: Samples, encoder: Encoder, folder: Path, *, kill_after: int = 0) -> tuple[Net, Training]:
    """A new net after two epochs, or until so many batches are done; goes on where the folder says."""
    done = 0

    def report(_: Step) -> None:
        nonlocal done
        done += 1
        if done == kill_after:
            raise Killed

    config = TrainConfig(epochs=2, batch_size=100, learning_rate=0.02, schedule="cosine", checkpoint_batches=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = build_net(NET, synthetic_schema(), vocabulary_sizes(encoder), file="test")
        checkpoints = Checkpoints(folder, identity={"rows": samples.train.digest()}, resume=True)
        return net, train(net, samples, config=config, report=report, checkpoints=checkpoints)


def test_stopped_in_the_middle_of_an_epoch_it_ends_the_same(
    sharded: ShardedSplit, encoder: Encoder, small_log: Log, tmp_path: Path
) -> None:
    """Weights and evaluations equal those of the run that nobody stopped, and something was learned."""
    valid = encode_split(small_log.valid, encoder)
    samples = Samples(train=sharded, valid=valid, sampler=NegativeSampler(encoder))
    whole, expected = trained(samples, encoder, tmp_path / "whole")
    for batches in (8, 11):  # in the second window, and in the second epoch
        with pytest.raises(Killed):
            trained(samples, encoder, tmp_path / "killed", kill_after=batches)

    found, result = trained(samples, encoder, tmp_path / "killed")

    assert expected.evaluations == result.evaluations
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(weight, found.state_dict()[name], rtol=0, atol=0)
    scores = predict_logit(found, samples.valid)
    assert auc(valid.label, scores) > 0.5
