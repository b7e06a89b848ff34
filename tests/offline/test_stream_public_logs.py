"""Public logs, and drawn ones of their form, come out of core as they come in memory, whatever they are cut into.

Cut are users by time, too: a piece has a few rows only.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Schema, Times
from model.data.data_config import DataConfig
from model.data.log import read_log
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog, read_sharded_log
from tests.public_logs import PUBLIC, SCHEMA
from tests.sharded_rows import assert_same_log

BLOCKS = ("amazon_reviews", "amazon_electronics", "taobao_user_behavior", "taobao_ads", "table jsonl", "table csv")
FEW = 0.004  # MB: a handful of rows in a piece


def prepared(config: DataConfig, schema: Schema, out: Path, *, memory_mb: float, reading: Reading) -> ShardedLog:
    """The log of absolute path in shards, read some lines at a time."""
    plan = Plan(valid_fraction=config.valid_fraction, test_fraction=config.test_fraction, memory_mb=memory_mb)
    prepare_shards(read_stream(config, schema, base=Path(), reading=reading), schema, plan=plan, out=out)
    return read_sharded_log(out, schema, memory_mb=1)


def compare(config: DataConfig, schema: Schema, out: Path, *, memory_mb: float) -> None:
    """Everything is equal: rows, catalogue, what was read, malformed or left out, and the names of texts."""
    memory, pieces = (Reading(max_malformed=config.max_malformed, block_bytes=size) for size in (1 << 25, 300))
    log = read_log(config, schema, base=Path(), reading=memory)
    sharded = prepared(config, schema, out, memory_mb=memory_mb, reading=pieces)
    assert_same_log(log, sharded, schema)
    assert pieces.files == memory.files
    assert pieces.left_out == memory.left_out
    assert {n: told.total().rows() for n, told in pieces.names.items()} == {
        n: told.total().rows() for n, told in memory.names.items()
    }


def compare_or_refuse(config: DataConfig, schema: Schema, out: Path) -> None:
    """`compare` in small pieces; a log that cannot be split is refused by both."""
    try:
        read_log(config, schema, base=Path())
    except ConfigError:
        with pytest.raises(ConfigError):
            prepared(config, schema, out, memory_mb=FEW, reading=Reading())
        return
    compare(config, schema, out, memory_mb=FEW)


@pytest.mark.parametrize("pieces", ["many", "one"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_public_log_out_of_core_is_the_log_in_memory(name: str, pieces: str, tmp_path: Path) -> None:
    """A line that is there twice and a malformed one are told alike; histories may be longer than what is kept."""
    public = PUBLIC[name]
    file, lines = next(iter(public.lines.items()))
    raw = [line.encode(public.encoding) for line in [*lines, lines[-1]]]
    public.write(tmp_path, {file: [*raw, b"torn"]})
    config = dataclasses.replace(public.config, path=tmp_path, max_malformed=0.2, valid_fraction=0.2, test_fraction=0.2)
    if pieces == "one":
        compare(config, public.schema, tmp_path / "shards", memory_mb=64.0)
    else:
        compare(config, dataclasses.replace(public.schema, max_history=2), tmp_path / "shards", memory_mb=FEW)


def test_a_schema_without_histories_out_of_core(tmp_path: Path) -> None:
    """Rows as in memory, too; behaviors alone are refused, because a next item follows a history."""
    for name in ("table csv", "taobao_ads"):
        public = PUBLIC[name]
        (tmp_path / name).mkdir()
        public.write(tmp_path / name)
        config = dataclasses.replace(public.config, path=tmp_path / name)
        compare(config, dataclasses.replace(public.schema, behavior=()), tmp_path / "shards", memory_mb=1.0)
    config = dataclasses.replace(PUBLIC["table jsonl"].config, path=tmp_path)
    PUBLIC["table jsonl"].write(tmp_path)
    schema = dataclasses.replace(SCHEMA, behavior=())
    for read in (read_log, read_stream):
        with pytest.raises(ConfigError, match="schema\\.behavior"):
            read(config, schema, base=Path(), reading=Reading())


def behaviors(users: int, items: int) -> st.SearchStrategy[list[tuple[int, int, int, int]]]:
    """Lines of user, item, category and time, some of them twice; user 1 has about half of them."""
    user = st.one_of(st.just(1), st.integers(1, users))
    return st.lists(
        st.tuples(user, st.integers(1, items), st.integers(0, 2), st.integers(0, 25)), min_size=12, max_size=40
    )


@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    lines=behaviors(4, 400),
    negatives=st.sampled_from(["uniform", "popularity"]),
    seed=st.integers(0, 9),
    gaps=st.booleans(),
)
def test_behaviors_out_of_core_are_those_in_memory(
    lines: list[tuple[int, int, int, int]], negatives: str, seed: int, *, gaps: bool
) -> None:
    """Next items with what is drawn against them, in pieces that cut the busy user by time."""
    schema = dataclasses.replace(SCHEMA, times=Times(column="hist_times") if gaps else None, max_history=3)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.mkdir()
        (log / "UserBehavior.csv").write_text("".join(f"{u},{i},{c},pv,{t}\n" for u, i, c, t in lines))
        config = DataConfig(
            format="taobao_user_behavior",
            path=log,
            negatives=negatives,  # type: ignore[arg-type]  # one of the two
            seed=seed,
            valid_fraction=0.2,
            test_fraction=0.2,
        )
        compare_or_refuse(config, schema, Path(folder) / "shards")


@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])
@given(shown=behaviors(5, 14), done=behaviors(5, 14))
def test_impressions_beside_behaviors_out_of_core_are_those_in_memory(
    shown: list[tuple[int, int, int, int]], done: list[tuple[int, int, int, int]]
) -> None:
    """Ads that nothing is told of, users without a profile or an impression, and equal times."""
    public = PUBLIC["taobao_ads"]
    schema = dataclasses.replace(public.schema, max_history=3, actions=("click", "cart"))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.mkdir()
        raw = {
            "raw_sample.csv": [f"{u},{t},{i},430548_{c},{t % 2},{1 - t % 2}" for u, i, c, t in shown],
            "behavior_log.csv": [f"{u},{t},{('pv', 'cart', 'fav')[c]},{i % 3},{i}" for u, i, c, t in done],
            "user_profile.csv": [f"{u},0,5,2,{u},,3,0," for u in range(1, 5)],
        }
        other = {file: [line.encode() for line in [public.lines[file][0], *lines]] for file, lines in raw.items()}
        public.write(log, other)
        config = dataclasses.replace(public.config, path=log, valid_fraction=0.2, test_fraction=0.2)
        compare_or_refuse(config, schema, Path(folder) / "shards")


@pytest.mark.parametrize("told", ["ids", "ids, times", "price"])
def test_a_table_with_histories_out_of_core_is_the_one_in_memory(told: str, tmp_path: Path) -> None:
    """Rows stay as they are, also where histories are longer than what is kept; items that histories alone tell of,
    and what a user did before the first row, are gathered as in memory.
    """
    rng = np.random.default_rng(len(told))
    times = Times(column="hist_times", gaps=("request", "previous")) if "times" in told else None
    price = (Feature(name="price", kind="dense"),) if told == "price" else ()
    schema = dataclasses.replace(SCHEMA, max_history=3, times=times, item=(*SCHEMA.item, *price))
    lines = ["user_id,item_id,cate_id,price,label,timestamp,hist_item_ids,hist_cate_ids,hist_times"]
    for _ in range(60):
        items, now = rng.integers(1, 30, size=rng.integers(6)), rng.integers(20, 60)
        lists = (items, items % 3, now - 1 - np.arange(len(items))[::-1])
        user = f"u{rng.integers(1, 4) if rng.random() < 0.5 else 1}"
        told_of = ["|".join(map(str, values)) for values in lists]
        lines.append(",".join([user, f"{rng.integers(1, 9)},{rng.integers(3)},1.5,{rng.integers(2)},{now}", *told_of]))
    (tmp_path / "log.csv").write_text("\n".join(lines))
    config = DataConfig(format="table", path=tmp_path / "log.csv", valid_fraction=0.2, test_fraction=0.2)
    for memory_mb in (FEW, 1.0):
        compare(config, schema, tmp_path / "shards", memory_mb=memory_mb)


def test_the_last_items_of_each_user_test_and_validate_out_of_core(tmp_path: Path) -> None:
    """The same rows as in memory where users are whole; a user who is cut by time is told by `data.memory_mb`."""
    public = PUBLIC["amazon_electronics"]
    public.write(tmp_path)
    config = dataclasses.replace(public.config, path=tmp_path, split="last", negatives="popularity")
    compare(config, SCHEMA, tmp_path / "shards", memory_mb=1.0)
    with pytest.raises(ConfigError, match=r"data\.memory_mb: found 'a user cut by time'"):
        prepared(config, SCHEMA, tmp_path / "shards", memory_mb=FEW, reading=Reading())
    header, *lines = public.lines["electronics.csv"]
    (tmp_path / "electronics.csv").write_text("\n".join([header, *(x for x in lines if x[0] in "3")]))
    with pytest.raises(ConfigError, match=r"data\.split: found 'no rows for train'"):
        prepared(config, SCHEMA, tmp_path / "shards", memory_mb=1.0, reading=Reading())


@pytest.mark.parametrize(("negatives", "shares"), [("uniform", (1 / 3,) * 3), ("popularity", (0.6, 0.3, 0.1))])
def test_what_is_drawn_out_of_core_follows_the_counts(
    negatives: str, shares: tuple[float, ...], tmp_path: Path
) -> None:
    """Users of one item each draw among the three others as `data.negatives` says, in many pieces."""
    rng = np.random.default_rng(2)
    many = [*rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1], size=1500)]
    lines = [f"{u},{i},0,pv,{t}" for u, i in enumerate(many) for t in (10, 20 + u)]
    lines += [f"{9_000 + u},4,0,pv,{t}" for u in range(800) for t in (10, 20 + u)]
    (tmp_path / "UserBehavior.csv").write_text("\n".join(lines))
    config = DataConfig(format="taobao_user_behavior", path=tmp_path, negatives=negatives)  # type: ignore[arg-type]  # as above
    log = prepared(config, SCHEMA, tmp_path / "shards", memory_mb=4.0, reading=Reading())
    drawn = []
    items = pl.read_parquet(tmp_path / "shards" / "items.parquet")["item_id"].to_numpy()
    for name in ("train", "valid", "test"):
        for part in log.split(name).parts():
            index = part.items["item_sparse"][:, 0]
            four = log.encoder.vocabularies["item_id"].lookup(np.array([4]))[0]
            old = part.history[part.offsets[:-1], 0] == four
            drawn.append(index[old & (part.label == 0)])
    found = np.bincount(np.concatenate(drawn), minlength=len(items) + 2)[2:5]
    assert found / found.sum() == pytest.approx(shares, abs=0.05)
    assert found.sum() == 800
