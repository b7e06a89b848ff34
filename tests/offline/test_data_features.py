"""Lists, missing numbers and times in logs: read as written, fitted on training rows only, wrong ones named."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from model.bundle.dense import Buckets, Range, Scaling
from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Schema, Sequence, Times
from model.data.batches import encode_split
from model.data.log import DataConfig, read_log
from model.data.negatives import NegativeSampler
from model.data.scaling import fit_scaling
from model.data.task import read_task
from model.data.vocab import fit_encoder

SCHEMA = Schema(
    user=(Feature(name="age", kind="dense", missing=30.0),),
    item=(
        Feature(name="item_id"),
        Feature(name="tags", kind="multi", min_count=2),
        Feature(name="kind", hash_buckets=9),
    ),
    behavior=(Sequence(shares="item_id", column="hist"), Sequence(shares="tags", column="unused")),
    times=Times(column="times", gaps=("request",)),
)
ROWS = {
    "label": [1, 0, 1],
    "user_id": [7, 7, 8],
    "age": [20.0, None, 40.0],
    "item_id": [2, 3, 2],
    "kind": [5, 6, 5],
    "tags": [[1, 2], [2], []],
    "hist": [[], [2, 3], [3]],
    "times": [[], [10, 60], [100]],
    "timestamp": [60, 70, 200],
}


def write(folder, **changed):
    """A task whose training file has all rows; `changed` columns replace those of that file."""
    frame = pl.DataFrame(ROWS)
    for name in ("train", "valid", "test"):
        frame.write_parquet(folder / f"{name}.parquet")
    frame.with_columns(pl.Series(name, values) for name, values in changed.items()).write_parquet(
        folder / "train.parquet"
    )


def test_a_task_is_encoded_with_lists_times_and_missing_numbers(tmp_path):
    """Tag 1 is seen once and unknown; tags of the past come from the newest row of their item; 30 stands for no age."""
    write(tmp_path)
    log = read_task(tmp_path, SCHEMA)
    split = encode_split(log.train, encoder := fit_encoder(log, SCHEMA))

    assert log.items.rows() == [(2, [], 5), (3, [2], 6)]
    assert set(log.behaviors["timestamp"]) == {60, 100, 200}  # the times of the first histories, and the clicks
    assert encoder.vocabularies["tags"].keys.tolist() == [2]
    assert encoder.scalings["age"] == Scaling(mean=30.0, std=10.0)
    assert split.request["user_dense"][:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert split.items["item_sparse"][:, 1:4].tolist() == [[1, 2, 0], [2, 0, 0], [0, 0, 0]]
    assert split.history[:, 0].tolist() == [2, 3, 3]
    assert split.history[:, 1].tolist() == [0, 2, 2]
    assert split.history[:, -1].tolist() == [2 + 5, 2 + 3, 2 + 6]  # 60, 10 and 100 seconds


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tags": [["a"], ["b"], []]}, r"column tags: found 'a list of String', allowed: lists of integers"),
        ({"tags": [1, 2, 3]}, r"column tags: found 'Int64', allowed: lists of integers"),
        ({"tags": [[-1], [2], []]}, r"column tags: found 'a list of -1'"),
        ({"tags": [None, [2], []]}, r"column tags: found '1 missing values'"),
        ({"times": [[], [10], [100]]}, r"column times: found '1 rows of another length than in hist'"),
        ({"age": [1.0, float("nan"), 2.0]}, r"column age: found 'nan', allowed: finite numbers"),
    ],
)
def test_wrong_columns_are_named(tmp_path, changed, said):
    """The file, the column, what was found and what is allowed."""
    write(tmp_path, **changed)
    with pytest.raises(ConfigError, match=rf"train\.parquet: {said}"):
        read_task(tmp_path, SCHEMA)


def test_transforms_are_fitted_on_what_is_given():
    """Quantile edges without doubles, the range with its mean, the deviation of logarithms; no value at all is told."""
    numbers = pl.Series("f", [0.0, 0.0, 0.0, None, 1.0, 3.0])

    def fit(**options):
        return fit_scaling(Feature(name="f", kind="dense", **options), numbers)

    assert fit(transform="bucketise", buckets=5) == Buckets(edges=(0.0, pytest.approx(0.4), pytest.approx(1.4)))
    assert fit(transform="none") == Range(low=0.0, high=3.0, absent=pytest.approx(0.8))
    logs = np.log1p([0.0, 0.0, 0.0, 1.0, 3.0])
    assert fit(transform="log") == Scaling(mean=pytest.approx(logs.mean()), std=pytest.approx(logs.std()), log=True)
    with pytest.raises(ConfigError, match="column f: found 'no value in train'"):
        fit_scaling(Feature(name="f", kind="dense"), numbers[3:4])


def test_a_rating_log_has_the_times_of_its_histories(tmp_path):
    """Times stand beside the items that they belong to, and all genres of a film are a list."""
    (tmp_path / "ratings.dat").write_text("".join(f"1::{i}::5::{100 * i}\n" for i in range(1, 11)))
    (tmp_path / "movies.dat").write_text("".join(f"{i}::T{i}::Comedy|War\n" for i in range(1, 10)))
    schema = Schema(
        item=(Feature(name="item_id"), Feature(name="genres", kind="multi", dtype="str")),
        behavior=(Sequence(shares="item_id", column="hist"),),
        times=Times(column="when"),
    )
    log = read_log(DataConfig(format="movielens", path=tmp_path), schema, base=tmp_path)

    assert log.test["hist"].to_list() == [list(range(1, 10))]
    assert log.test["when"].to_list() == [[100 * i for i in range(1, 10)]]
    assert log.train["genres"][0].to_list() == ["Comedy", "War"]
    assert log.test["genres"].to_list() == [[]]  # film 10 is rated but not described


def test_negatives_keep_the_gaps_and_differ_where_ids_are_hashed(tmp_path):
    """A negative is another bucket's item with its own tags, at the time of the real behavior."""
    write(tmp_path)
    items = (Feature(name="item_id", hash_buckets=50), *SCHEMA.item[1:])
    schema = dataclasses.replace(SCHEMA, item=items)
    log = read_task(tmp_path, schema)
    encoder = fit_encoder(log, schema)
    batch = encode_split(log.train, encoder).take(np.arange(3))
    drawn = NegativeSampler(encoder).sample(batch["history"], batch["history_len"], np.random.default_rng(0))

    real = np.arange(2) < batch["history_len"][:, None]
    assert (drawn[real][:, 0] != batch["history"][real][:, 0]).all()
    assert (drawn[real][:, 0] >= 2).all()
    np.testing.assert_array_equal(drawn[..., -1], batch["history"][..., -1])
    assert (drawn[~real] == 0).all()
