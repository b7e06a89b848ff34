"""Preparation out of core gives the rows of the log in memory, whatever the pieces it is cut into."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.config import read_config
from model.data.assemble import from_interactions
from model.data.data_config import DataConfig
from model.data.interactions import Interactions
from model.data.log import read_log
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import in_pieces, read_stream
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog, read_sharded_log
from model.data.split import split_by_time, time_borders
from model.data.synthetic import SyntheticConfig, synthesize, synthetic_schema
from tests.sharded_rows import assert_same_log

SIZES = SyntheticConfig(users=40, items=60, categories=8, impressions_per_user=20, seed=3)
CONFIG = DataConfig(format="synthetic", positive_rating=1.0)
PLAN = Plan(valid_fraction=0.1, test_fraction=0.1, memory_mb=1)
SCHEMAS = ("plain", "features")


@pytest.fixture(scope="module", params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    """The synthetic schema, and one with every kind of feature: lists, hashed and bucketised ones, gaps."""
    if request.param == "plain":
        return synthetic_schema()
    return read_config(Path(__file__).parents[2] / "examples" / "features.toml").schema


@pytest.fixture(scope="module")
def interactions(schema: Schema) -> Interactions:
    """A log in which one user has a third of the rows and seconds are shared."""
    log = synthesize(SIZES, schema)
    user, time = schema.keys.user, schema.keys.timestamp
    busy = pl.when(pl.int_range(pl.len()) % 3 == 0).then(7).otherwise(pl.col(user)).alias(user)
    return dataclasses.replace(log, ratings=log.ratings.with_columns(busy, pl.col(time) // 5000 * 5000))


def prepared(log: Interactions, schema: Schema, out: Path, *, memory_mb: float, piece: int = 173) -> ShardedLog:
    plan = dataclasses.replace(PLAN, memory_mb=memory_mb)
    prepare_shards(in_pieces(log, positive_rating=1.0, rows=piece), schema, plan=plan, out=out)
    return read_sharded_log(out, schema, memory_mb=1)


@pytest.mark.parametrize("memory_mb", [0.2, 64.0])
def test_shards_hold_the_rows_of_the_log_in_memory(
    interactions: Interactions, schema: Schema, memory_mb: float, tmp_path: Path
) -> None:
    """Encoder, priors, activity, summary, behaviors and every encoded row are equal byte by byte, in another order.

    With little memory the busy user comes in many pieces, and clicks are carried from each to the next.
    """
    log = from_interactions(interactions, CONFIG, schema, file="log", reading=Reading())

    assert_same_log(log, prepared(interactions, schema, tmp_path, memory_mb=memory_mb), schema)


def test_a_table_is_read_block_by_block(tmp_path: Path, movie_schema: Schema) -> None:
    """A CSV of text users, out of order and with a malformed line: rows, users and what was left out are as in memory.

    The catalogue is gathered on the way: of an item the newest category.
    """
    rng = np.random.default_rng(4)
    rows = [
        f"{'abcdefgh'[rng.integers(8)]},{rng.integers(30)},{rng.integers(5)},{rng.integers(2)},{rng.integers(400) * 60}"
        for _ in range(600)
    ]
    rows[300] = "a,b,c"
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,cate_id,label,timestamp", *rows, ""]))
    config = DataConfig(format="table", path=Path("log.csv"), max_malformed=0.01)
    in_memory, in_pieces = (Reading(max_malformed=0.01, block_bytes=500) for _ in range(2))
    log = read_log(config, movie_schema, base=tmp_path, reading=in_memory)

    stream = read_stream(config, movie_schema, base=tmp_path, reading=in_pieces)
    prepare_shards(stream, movie_schema, plan=PLAN, out=tmp_path / "shards")

    assert in_memory.files == in_pieces.files
    assert_same_log(log, read_sharded_log(tmp_path / "shards", movie_schema, memory_mb=1), movie_schema)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    times=st.lists(st.integers(-300_000, 300_000), max_size=60),
    valid=st.floats(0.01, 0.4),
    test=st.floats(0.01, 0.4),
    cut=st.integers(1, 20),
)
def test_borders_are_those_of_sorting(times: list[int], valid: float, test: float, cut: int) -> None:
    """Two counting passes over pieces find the splits that a sorted log has, or refuse the same logs."""
    frame = pl.DataFrame({"t": times}, schema={"t": pl.Int64})

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, len(times), cut):
            yield np.array(times[start : start + cut])

    try:
        train, validated, _ = split_by_time(frame, "t", valid_fraction=valid, test_fraction=test)
    except ConfigError:
        with pytest.raises(ConfigError, match="rows in every split"):
            time_borders(pieces, valid_fraction=valid, test_fraction=test)
        return
    borders = time_borders(pieces, valid_fraction=valid, test_fraction=test)

    assert (len(train), len(train) + len(validated)) == tuple((np.array(times)[:, None] < borders).sum(axis=0))


def test_what_cannot_be_streamed_is_refused(tmp_path: Path, movie_schema: Schema) -> None:
    """A log of served requests, the DIEN files, labels split by users, other columns in the second file."""
    table = DataConfig(format="table", path=Path("log.csv"))
    for config in (DataConfig(format="feature_log", path=Path()), DataConfig(format="dien_files", path=Path())):
        with pytest.raises(ConfigError, match="--shards"):
            read_stream(config, movie_schema, base=tmp_path, reading=Reading())
    (tmp_path / "log.csv").write_text("user_id,item_id,cate_id,label,timestamp\n1,2,3,0,4\n")
    with pytest.raises(ConfigError, match=r"data\.split: found 'last'"):
        read_stream(dataclasses.replace(table, split="last"), movie_schema, base=tmp_path, reading=Reading())
    (tmp_path / "more.csv").write_text("user_id,item_id,cate_id,timestamp\n1,2,3,4\n")
    folder = dataclasses.replace(table, path=Path())
    with pytest.raises(ConfigError, match="in every file the columns"):
        list(read_stream(folder, movie_schema, base=tmp_path, reading=Reading()).pieces)


def test_shards_are_read_with_their_own_schema_and_encoder(tmp_path: Path) -> None:
    """A schema that differs is told by its key, a run of other shards by the file, a preparation cut off by the log."""
    schema = synthetic_schema()
    log = prepared(synthesize(SIZES, schema), schema, tmp_path / "one", memory_mb=64.0)
    other = prepared(synthesize(dataclasses.replace(SIZES, seed=4), schema), schema, tmp_path / "two", memory_mb=64.0)

    with pytest.raises(ConfigError, match="max_history"):
        read_sharded_log(tmp_path / "one", dataclasses.replace(schema, max_history=9), memory_mb=1)
    with pytest.raises(ConfigError, match="trained on these shards"):
        log.check_encoder(other.encoder)
    (tmp_path / "one" / "log.json").unlink()
    with pytest.raises(ConfigError, match="wrote to its end"):
        read_sharded_log(tmp_path / "one", schema, memory_mb=1)


def test_files_that_no_preparation_wrote_are_never_deleted(tmp_path: Path) -> None:
    """A folder with a `train` of somebody else is refused before anything is touched; shards are written over."""
    schema = synthetic_schema()
    log = synthesize(SIZES, schema)
    prepared(log, schema, tmp_path, memory_mb=64.0)
    (tmp_path / "test" / "00000" / "cat.png").write_bytes(b"mine")

    with pytest.raises(ConfigError, match=r"test: \(folder\): found 'cat\.png'"):
        prepared(log, schema, tmp_path, memory_mb=64.0)

    assert (tmp_path / "test" / "00000" / "cat.png").exists()
    assert (tmp_path / "log.json").exists()
    (tmp_path / "test" / "00000" / "cat.png").unlink()
    prepared(log, schema, tmp_path, memory_mb=64.0)


def test_a_log_without_rows_is_refused_and_leaves_no_log(tmp_path: Path) -> None:
    """Nothing in the folder looks like a prepared log, and the partitions are gone."""
    log = synthesize(SIZES, synthetic_schema())
    empty = dataclasses.replace(log, ratings=log.ratings.clear())

    with pytest.raises(ConfigError, match="rows"):
        prepared(empty, synthetic_schema(), tmp_path, memory_mb=1.0)

    assert not list(tmp_path.iterdir())
