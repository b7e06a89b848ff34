"""From ratings to impressions, each with the history that its user had just before it.

No future leaks: a history holds behaviors of strictly earlier time only, so that of several ratings in one second none
sees another. Within a history equal times keep the order of the log.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.columns import history_columns
from model.data.ragged import slices, to_lists

_DONE = "__done"
ORDER = "__order"  # of a row in the log, which decides among rows of one user and time


def numbered_from(rows: pl.DataFrame, first: int) -> pl.DataFrame:
    """The rows with their numbers in the log as `ORDER`, in 64 bits: polars' own row index ends at 2^32."""
    return rows.with_columns(pl.int_range(first, first + len(rows), dtype=pl.Int64).alias(ORDER))


@dataclass(frozen=True, kw_only=True)
class PointInTime:
    """Ratings by user, time and order, labelled, and which of the clicks among them each row's user had made before.

    rows     with the column of labels, Int8
    clicks   [C] numbers of the clicked rows, ascending
    starts, lengths  [N] row i's history is clicks[starts[i] : starts[i] + lengths[i]], oldest first
    """

    rows: pl.DataFrame
    clicks: Ids
    starts: Ids
    lengths: Ids


def point_in_time(ratings: pl.DataFrame, schema: Schema, *, positive_rating: float) -> PointInTime:
    """Sort `ratings`, which have the column `ORDER`, and find each row's newest `schema.max_history` clicks of strictly
    earlier time.
    """
    keys = schema.keys
    rows = ratings.sort(keys.user, keys.timestamp, ORDER)
    clicked = (rows["rating"] >= positive_rating).to_numpy()
    starts, lengths = _spans(_changes(rows[keys.user]), _changes(rows[keys.timestamp]), clicked, schema.max_history)
    rows = rows.with_columns(pl.Series(keys.label, clicked).cast(pl.Int8))
    return PointInTime(rows=rows, clicks=np.flatnonzero(clicked), starts=starts, lengths=lengths)


def impressions(ratings: pl.DataFrame, schema: Schema, *, positive_rating: float) -> pl.DataFrame:
    """One impression per rating, by time and then by the order of the log.

    `ratings` has the columns user, item, category (if the schema has one), rating and timestamp. The label says whether
    the rating is at least `positive_rating`; the list columns hold the user's earlier positive items, oldest first,
    the newest `schema.max_history` of them, and their times where the schema asks for them.
    """
    keys = schema.keys
    found = point_in_time(ratings.with_row_index(ORDER), schema, positive_rating=positive_rating)
    taken = found.clicks[slices(found.starts, found.lengths)]
    told = history_columns(schema) | ({keys.timestamp: schema.times.column} if schema.times else {})
    lists = [to_lists(found.rows[key][taken], found.lengths).alias(column) for key, column in told.items()]
    return found.rows.with_columns(*lists).sort(keys.timestamp, ORDER).drop(ORDER, "rating")


def impressions_beside(shown: pl.DataFrame, behaviors: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """`shown` with list columns of what its users had done before, from a log of behaviors apart; by time.

    `behaviors` has the columns user, item, category (if the schema has one) and timestamp; what is in a history and
    what is not is as in `impressions`.
    """
    keys = schema.keys
    told = history_columns(schema) | ({keys.timestamp: schema.times.column} if schema.times else {})
    names = list(dict.fromkeys([keys.user, keys.timestamp, *told]))
    done = behaviors.select(*names, pl.lit(True).alias(_DONE))
    asked = shown.select(keys.user, keys.timestamp, pl.lit(False).alias(_DONE)).with_row_index(ORDER)
    rows = pl.concat([done, asked], how="diagonal").sort(keys.user, keys.timestamp, maintain_order=True)
    is_done = rows[_DONE].to_numpy()
    starts, lengths = _spans(_changes(rows[keys.user]), _changes(rows[keys.timestamp]), is_done, schema.max_history)
    starts, lengths = starts[~is_done], lengths[~is_done]
    taken = np.flatnonzero(is_done)[slices(starts, lengths)]
    lists = [to_lists(rows[key][taken], lengths).alias(column) for key, column in told.items()]
    told_of = rows.filter(~pl.col(_DONE)).select(ORDER).with_columns(*lists).sort(ORDER).drop(ORDER)
    return pl.concat([shown, told_of], how="horizontal").sort(keys.timestamp, maintain_order=True)


def positives(ratings: pl.DataFrame, schema: Schema, *, positive_rating: float) -> pl.DataFrame:
    """Every behavior: user, item, category and time of the ratings that count as one, by user and time."""
    keys = schema.keys
    names = [keys.user, keys.item, *([keys.category] if keys.category else []), keys.timestamp]
    kept = ratings.filter(pl.col("rating") >= positive_rating).select(names)
    return kept.sort(keys.user, keys.timestamp, maintain_order=True)


def _changes(values: pl.Series) -> NDArray[np.bool_]:
    """[N] true where the value differs from the one before, and in the first row."""
    return (values != values.shift()).fill_null(True).to_numpy()


def _spans(
    new_user: NDArray[np.bool_], new_time: NDArray[np.bool_], clicked: NDArray[np.bool_], longest: int
) -> tuple[Ids, Ids]:
    """First click and number of clicks of each row's history, where clicks are counted over all rows by user and time.

    Clicks before the first row of the same user and time, less those before the user's own first row.
    """
    before: Ids = np.cumsum(clicked) - clicked
    rows = np.arange(len(clicked))
    user_starts = np.maximum.accumulate(np.where(new_user, rows, 0))
    time_starts = np.maximum.accumulate(np.where(new_user | new_time, rows, 0))
    ends: Ids = before[time_starts]
    lengths = np.minimum(ends - before[user_starts], longest)
    return ends - lengths, lengths
