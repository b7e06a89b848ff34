"""Histories as of each impression, and the split by time."""

import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.data.history import ORDER, impressions, numbered_from, positives
from model.data.ragged import to_flat, to_lists
from model.data.split import split_by_time

SHORT = Schema(
    item=(Feature(name="item_id"), Feature(name="cate_id")),
    behavior=(Sequence(shares="item_id", column="items"), Sequence(shares="cate_id", column="cates")),
    keys=Keys(category="cate_id"),
    max_history=3,
)
COLUMNS = {"user_id": pl.Int64, "item_id": pl.Int64, "cate_id": pl.Int64, "rating": pl.Float64, "timestamp": pl.Int64}

# Few users and times, so that ties and long histories are common.
a_rating = st.tuples(
    st.integers(0, 3), st.integers(0, 2**63 - 1), st.integers(0, 9), st.sampled_from([1.0, 3.5, 4.0, 5.0]),
    st.integers(0, 6),
)  # fmt: skip


def frame(rows):
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def plain_history(rows, at, *, longest):
    """The history of row `at`, straight from its definition."""
    user, _, _, _, now = rows[at]
    past = [
        (then, place, item, category)
        for place, (who, item, category, rating, then) in enumerate(rows)
        if who == user and then < now and rating >= 4
    ]
    return [(item, category) for _, _, item, category in sorted(past)][-longest:]


def test_rows_are_numbered_beyond_four_billion():
    """A log that is read in pieces has as many rows as it has."""
    assert numbered_from(pl.DataFrame({"item_id": [7, 8]}), 2**32 - 1)[ORDER].to_list() == [2**32 - 1, 2**32]


@settings(deadline=None)
@given(st.lists(a_rating, min_size=1, max_size=40))
def test_a_history_is_the_users_earlier_positive_items(rows):
    """For every rating: strictly earlier positive items of the same user, oldest first, equal times in log order, the
    newest `max_history`; rows come by time and then in log order.
    """
    got = impressions(frame(rows), SHORT, positive_rating=4.0)
    order = sorted(range(len(rows)), key=lambda i: (rows[i][4], i))
    assert got["item_id"].to_list() == [rows[i][1] for i in order]
    assert got["label"].to_list() == [int(rows[i][3] >= 4) for i in order]
    histories = [list(zip(*pair, strict=True)) for pair in zip(got["items"], got["cates"], strict=True)]
    assert histories == [plain_history(rows, i, longest=3) for i in order]


def test_histories_without_behaviors_in_the_schema_are_left_out():
    """A schema without a behavior sequence gets no list columns."""
    schema = Schema(item=(Feature(name="item_id"),))
    got = impressions(frame([(1, 2, 0, 5.0, 9)]).drop("cate_id"), schema, positive_rating=4.0)
    assert got.columns == ["user_id", "item_id", "timestamp", "label"]


def test_positives_are_every_behavior_by_user_and_time():
    """Ratings below the threshold are no behaviors; the others are sorted by user, time and log order."""
    rows = [(2, 10, 1, 5.0, 7), (1, 11, 1, 4.0, 9), (1, 12, 1, 3.0, 8), (1, 13, 1, 4.0, 8), (1, 14, 1, 4.5, 8)]
    assert positives(frame(rows), SHORT, positive_rating=4.0).rows() == [
        (1, 13, 1, 8),
        (1, 14, 1, 8),
        (1, 11, 1, 9),
        (2, 10, 1, 7),
    ]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4), max_size=20))
def test_lists_and_flat_values_are_two_forms_of_one_thing(lists):
    """Flattening a list column and building it again changes nothing, empty lists included."""
    column = pl.Series("lists", lists, dtype=pl.List(pl.Int64))
    flat, lengths = to_flat(column)
    assert flat.to_list() == [value for values in lists for value in values]
    assert to_lists(flat, lengths).to_list() == lists


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.sampled_from([0.1, 0.2, 0.4]))
def test_a_split_never_looks_into_the_future(times, fraction):
    """Train is earlier than valid, valid earlier than test, no time is in two of them, and no row is lost."""
    rows = pl.DataFrame({"timestamp": times, "row": range(len(times))})
    try:
        parts = split_by_time(rows, "timestamp", valid_fraction=fraction, test_fraction=fraction)
    except ConfigError:
        reject()  # ties left a split empty, see the next but one test
    train, valid, test = parts
    assert train["timestamp"].max() < valid["timestamp"].min()
    assert valid["timestamp"].max() < test["timestamp"].min()
    assert sorted(pl.concat(parts)["row"]) == list(range(len(times)))


def test_a_split_has_the_asked_fractions_when_times_differ():
    """100 rows at 100 times with 20% and 10% are 70, 20 and 10 rows."""
    rows = pl.DataFrame({"timestamp": range(100)})
    parts = split_by_time(rows, "timestamp", valid_fraction=0.2, test_fraction=0.1)
    assert [len(part) for part in parts] == [70, 20, 10]


@pytest.mark.parametrize("times", [[], [5], [5, 5, 5, 5], [1, 2]])
def test_a_log_too_small_to_split_is_refused(times):
    """An empty split is an error that counts the rows and distinct times."""
    rows = pl.DataFrame({"timestamp": times}, schema={"timestamp": pl.Int64})
    with pytest.raises(ConfigError, match=rf"among {len(times)} rows at {len(set(times))} distinct times"):
        split_by_time(rows, "timestamp", valid_fraction=0.1, test_fraction=0.1)
