"""Prepared tasks on disk: what is written is read back, what is missing is gathered, what is wrong is named."""

import dataclasses

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Sequence
from model.data.log import DataConfig, read_log, write_task
from model.data.synthetic import synthetic_schema
from model.data.task import read_task

ROWS = {
    "label": [1, 0, 1],
    "user_id": [7, 7, 8],
    "item_id": [2, 3, 2],
    "cate_id": [20, 30, 21],
    "hist_item_ids": [[1], [1, 2], []],
    "hist_cate_ids": [[10], [10, 20], []],
    "timestamp": [100, 200, 300],
}
TYPES = {
    "label": pl.Int8,
    "user_id": pl.Int32,
    "item_id": pl.Int32,
    "cate_id": pl.Int32,
    "hist_item_ids": pl.List(pl.Int32),
    "hist_cate_ids": pl.List(pl.Int32),
    "timestamp": pl.Int64,
}


def write(folder, **changed):
    """A task whose three files hold one row each; `changed` columns replace those of the training file."""
    frame = pl.DataFrame(ROWS, schema=TYPES)
    for i, name in enumerate(("train", "valid", "test")):
        frame[i : i + 1].write_parquet(folder / f"{name}.parquet")
    columns = [pl.Series(name, values[:1] if isinstance(values, list) else values) for name, values in changed.items()]
    frame[:1].with_columns(columns).write_parquet(folder / "train.parquet")


def test_a_written_log_is_read_back_equal(small_log, tmp_path):
    """Every frame with its types, the true click probability and the Bayes-optimal AUC."""
    write_task(small_log, tmp_path / "prepared")
    back = read_log(DataConfig(format="task", path="prepared"), synthetic_schema(), base=tmp_path)
    for name in ("train", "valid", "test", "items", "behaviors"):
        assert_frame_equal(getattr(back, name), getattr(small_log, name), check_exact=True)
    assert back.bayes_auc == small_log.bayes_auc


def test_ids_become_int64_and_what_is_not_there_is_gathered(tmp_path, movie_schema):
    """Without items.parquet the catalogue has every item of rows and histories with its newest category; without
    behaviors.parquet there are the clicks and the first histories, the latter one second apart before the first row.
    """
    write(tmp_path)
    log = read_task(tmp_path, movie_schema)
    assert log.train.schema["item_id"] == pl.Int64
    assert log.train.schema["hist_item_ids"] == pl.List(pl.Int64)
    assert log.items.rows() == [(1, 10), (2, 21), (3, 30)]
    assert log.behaviors.columns == ["user_id", "item_id", "timestamp", "cate_id"]
    assert log.behaviors.rows() == [(7, 1, 99, 10), (7, 2, 100, 20), (8, 2, 300, 21)]
    assert log.bayes_auc is None


def test_history_items_of_unknown_features_stay_out_of_the_gathered_catalogue(tmp_path, movie_schema):
    """Nothing tells the price of item 1, which only histories hold; the newest price of item 2 is known."""
    write(tmp_path, price=[5.0])
    for name, price in (("valid", 6.0), ("test", 7.0)):
        path = tmp_path / f"{name}.parquet"
        pl.read_parquet(path).with_columns(price=price).write_parquet(path)
    schema = dataclasses.replace(movie_schema, item=(*movie_schema.item, Feature(name="price", kind="dense")))
    assert read_task(tmp_path, schema).items.rows() == [(2, 21, 7.0), (3, 30, 6.0)]


def test_behaviors_without_a_category_list_take_it_from_the_catalogue(tmp_path, movie_schema):
    """With item ids alone in the history, item 1 is in no row, so its category is "not given"."""
    write(tmp_path)
    schema = dataclasses.replace(movie_schema, behavior=movie_schema.behavior[:1])
    assert read_task(tmp_path, schema).behaviors.rows() == [(7, 1, 99, -1), (7, 2, 100, 20), (8, 2, 300, 21)]


def test_text_users_are_read(tmp_path, movie_schema):
    """User ids may be text, as in Redis and in requests, but in all three files."""
    write(tmp_path, user_id=["u7"])
    with pytest.raises(ConfigError, match=r"column user_id: found .* allowed: one type in all three files"):
        read_task(tmp_path, movie_schema)
    for name in ("valid", "test"):
        path = tmp_path / f"{name}.parquet"
        pl.read_parquet(path).with_columns(user_id=pl.lit("u8")).write_parquet(path)
    assert read_task(tmp_path, movie_schema).behaviors["user_id"].to_list() == ["u7", "u7", "u8", "u8", "u8"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"item_id": [1.5]}, r"column item_id: found 'Float64', allowed: integers from 0 to 2\^63 - 1"),
        ({"item_id": ["2"]}, r"column item_id: found 'String', allowed: integers"),
        ({"item_id": [-2]}, r"column item_id: found '-2', allowed: integers"),
        ({"item_id": pl.Series([2**63], dtype=pl.UInt64)}, r"column item_id: found '9223372036854775808'"),
        ({"cate_id": pl.Series([None], dtype=pl.Int32)}, r"column cate_id: found '1 missing values'"),
        ({"user_id": [True]}, r"column user_id: found 'Boolean', allowed: integers .*, or strings"),
        ({"label": [2]}, r"column label: found '2', allowed: 0 or 1"),
        ({"label": ["click"]}, r"column label: found 'String', allowed: 0 or 1"),
        ({"timestamp": [float("nan")]}, r"column timestamp: found 'nan', allowed: seconds below 2\^53"),
        ({"timestamp": [2**53]}, r"column timestamp: found '9007199254740992', allowed: seconds below"),
        ({"hist_item_ids": [1]}, r"column hist_item_ids: found 'Int64', allowed: lists of integers"),
        ({"hist_item_ids": [["1"]]}, r"column hist_item_ids: found 'a list of String'"),
        ({"hist_item_ids": [[-1]]}, r"column hist_item_ids: found 'a list of -1'"),
        ({"hist_item_ids": [[None, 1]]}, r"column hist_item_ids: found '1 missing values inside its lists'"),
        ({"hist_cate_ids": [[1, 2]]}, r"column hist_cate_ids: found '1 rows of another length than in hist_item_ids'"),
    ],
)
def test_a_wrong_column_is_named(changed, said, tmp_path, movie_schema):
    """File, column, what was found and what is allowed."""
    write(tmp_path, **changed)
    with pytest.raises(ConfigError, match=r"train\.parquet: " + said):
        read_task(tmp_path, movie_schema)


def test_dense_values_must_be_finite(tmp_path, movie_schema):
    """Infinity in a dense feature is refused."""
    write(tmp_path, price=[float("inf")])
    schema = dataclasses.replace(movie_schema, context=(Feature(name="price", kind="dense"),))
    with pytest.raises(ConfigError, match="column price: found 'inf', allowed: finite numbers"):
        read_task(tmp_path, schema)


def test_a_missing_column_or_file_is_named(tmp_path, movie_schema):
    """A column of the schema that the file lacks, and each file that may not be missing."""
    write(tmp_path)
    schema = dataclasses.replace(movie_schema, context=(Feature(name="hour"),))
    with pytest.raises(ConfigError, match=r"train\.parquet: column hour: found 'no such column, only label, user_id"):
        read_task(tmp_path, schema)
    (tmp_path / "test.parquet").unlink()
    with pytest.raises(ConfigError, match=r"test\.parquet: file: found 'nothing there', allowed: a Parquet file"):
        read_task(tmp_path, movie_schema)


@pytest.mark.parametrize("name", ["train.parquet", "items.parquet", "behaviors.parquet"])
def test_a_file_that_is_no_parquet_is_named(name, tmp_path, movie_schema):
    """Also of the files that may be missing."""
    write(tmp_path)
    (tmp_path / name).write_bytes(b"not Parquet at all")
    with pytest.raises(ConfigError, match=rf"{name}: file: found .*allowed: a Parquet file"):
        read_task(tmp_path, movie_schema)


@pytest.mark.parametrize("text", ["{", "[1]", '{"bayes_auc": {"test": "high"}}', '{"bayes_auc": 0.8}'])
def test_a_broken_meta_file_is_named(text, tmp_path, movie_schema):
    """No JSON, no table, or no numbers in it."""
    write(tmp_path)
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ConfigError, match=r"meta\.json: bayes_auc: .*a table of numbers"):
        read_task(tmp_path, movie_schema)


def test_a_history_without_item_ids_is_refused(tmp_path, movie_schema):
    """A behavior is known by its item; categories alone are not enough."""
    write(tmp_path)
    schema = dataclasses.replace(movie_schema, behavior=(Sequence(shares="cate_id", column="hist_cate_ids"),))
    with pytest.raises(ConfigError, match=r"schema\.behavior: found \['cate_id'\], allowed: a sequence that shares"):
        read_task(tmp_path, schema)
