"""A log of behaviors without non-clicks as impressions: the item that came next against one that was drawn.

The task of DIEN's experiments on Amazon (DIEN, section 5.1; the public code's `process_data.py`), with two differences:
every behavior after the first is predicted, not the last one alone, and the drawn item is one that the user never met.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.columns import history_columns, only
from model.data.data_config import Negatives
from model.data.reading import Reading

_ROUNDS = 50  # after that many draws a user who met nearly every item goes without
_GOLDEN = 0x9E3779B97F4A7C15  # between the states of splitmix64
_ROW, _PLACE, _NUMBER = "__row", "__place", "__number"

NO_HISTORY = "next item without a history"
NONE_FOUND = "non-click that no item was found for: the user met nearly all"


@dataclass(frozen=True)
class Splits:
    """Train, valid and test rows."""

    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame


def next_items(rows: pl.DataFrame, schema: Schema, reading: Reading) -> pl.DataFrame:
    """The impressions of behaviors that have a history: what came next. Those without one predict nothing."""
    check_history(schema)
    history = pl.col(history_columns(schema)[schema.keys.item]).list.len()
    kept = rows.filter(history > 0)
    reading.leave_out(NO_HISTORY, len(rows) - len(kept))
    return kept


def check_history(schema: Schema) -> None:
    """Raise ConfigError for a schema without histories, after which nothing is next."""
    if not schema.behavior:
        allowed = "a sequence of the items before: the log has behaviors alone"
        raise ConfigError(file="schema", key="schema.behavior", found="none", allowed=allowed)


def with_drawn(
    rows: pl.DataFrame, items: pl.DataFrame, met: pl.DataFrame, schema: Schema, draw: "Draw"
) -> pl.DataFrame:
    """Behind every row the same one with an item that its user never met, and label 0, if one was found.

    items  the catalogue: the drawn item's features      met  user and item of every behavior of the rows' users
    """
    keys = schema.keys
    drawn = draw.unseen(rows.select(keys.user, keys.item, keys.timestamp), met.select(keys.user, keys.item))
    features = [f.name for f in schema.item]
    rows = rows.with_row_index(_ROW)
    label = pl.lit(0, dtype=rows.schema[keys.label]).alias(keys.label)
    other = rows.drop(features).with_columns(drawn.alias(keys.item), label).filter(pl.col(keys.item).is_not_null())
    told = only(items.select(features), keys.item, drawn)
    other = other.join(told, on=keys.item, how="left", maintain_order="left").select(rows.columns)
    casts = {name: dtype for name, dtype in rows.schema.items() if name in features}
    both = pl.concat([rows, other.cast(casts)])  # type: ignore[arg-type]  # polars asks for dict of its own union
    return both.sort(_ROW, maintain_order=True).drop(_ROW)


def met_counts(items: pl.Series) -> pl.DataFrame:
    """The columns `id` and `len`: how often each item was met."""
    return items.alias("id").to_frame().group_by("id").agg(pl.len().cast(pl.Int64))


class Draw:
    """How items are drawn: all alike, or as often as they were met.

    What is drawn follows from the seed, the behavior that it stands against, and what there is to draw from; so it is
    the same whatever part of the log is at hand, in whatever order.
    """

    def __init__(self, met: pl.DataFrame, *, negatives: Negatives, seed: int) -> None:
        """`met` has a row per item: its `id`, and `len`, how often it was met.

        Raises ConfigError if the log has one item only.
        """
        if len(met) < 2:
            raise ConfigError(file="the log", key="items", found=len(met), allowed="two or more, to draw another one")
        met = met.sort("id")
        self._ids: Ids = met["id"].to_numpy()
        self._ends: Ids | None = met["len"].cum_sum().to_numpy().astype(np.int64) if negatives == "popularity" else None
        self._seed = seed

    def unseen(self, behaviors: pl.DataFrame, met: pl.DataFrame) -> pl.Series:
        """For each of `behaviors` (user, item, time) an item that is not among those that its user `met` (user, item);
        null if none was found.
        """
        user, item = met.columns
        numbers = met.select(user).unique().with_row_index(_NUMBER)
        seen = np.unique(_numbers(met, numbers) * len(self._ids) + self._places(met[item].to_numpy()))
        owner = _numbers(behaviors, numbers) * len(self._ids)
        bits = behaviors.hash_rows(self._seed).to_numpy()
        place = np.full(len(behaviors), -1, dtype=np.int64)
        missing = np.arange(len(behaviors))
        for turn in range(_ROUNDS):
            place[missing] = self._drawn(bits[missing], turn)
            missing = missing[_among(owner[missing] + place[missing], seen)]
            if not len(missing):
                break
        out = pl.Series("drawn", self._ids[place])
        return out.scatter(missing, None) if len(missing) else out

    def _drawn(self, bits: NDArray[np.uint64], turn: int) -> Ids:
        """Places in `_ids`."""
        drawn = _mixed(bits + np.uint64(turn * _GOLDEN % 2**64))
        if self._ends is None:
            return (drawn % np.uint64(len(self._ids))).astype(np.int64)
        return np.searchsorted(self._ends, (drawn % np.uint64(self._ends[-1])).astype(np.int64), side="right")

    def _places(self, items: Ids) -> Ids:
        return np.searchsorted(self._ids, items)


def last_of_users(rows: pl.DataFrame, schema: Schema) -> Splits:
    """Each user's last behavior tests, the one before validates, earlier ones train.

    The order is that of `rows`, which is by time. Later days of one user train beside earlier ones of another, so this
    split tells less of the future than the one by time; it is that of most published figures.
    """
    placed = rows.with_columns(places_from_last(rows, schema).alias(_PLACE))
    parts = {"test": pl.col(_PLACE) == 1, "valid": pl.col(_PLACE) == 2, "train": pl.col(_PLACE) > 2}
    found = {name: placed.filter(where).drop(_PLACE) for name, where in parts.items()}
    for name, part in found.items():
        if not len(part):
            raise nothing_for(name)
    return Splits(**found)


def places_from_last(rows: pl.DataFrame, schema: Schema) -> pl.Series:
    """[N] 1 for each user's last behavior, 2 for the one before, and so on; a non-click has its click's."""
    keys = schema.keys
    clicks = (pl.col(keys.label) == 1).cum_sum(reverse=True).over(keys.user)
    # A non-click stands behind its click, and so counts one click fewer.
    return rows.select((clicks + (pl.col(keys.label) == 0).cast(pl.UInt32)).alias(_PLACE))[_PLACE]


def nothing_for(split: str) -> ConfigError:
    """What is wrong with a log of which no user has behaviors enough for `split`."""
    allowed = "users with four behaviors or more"
    return ConfigError(file="the log", key="data.split", found=f"no rows for {split}", allowed=allowed)


def _numbers(rows: pl.DataFrame, numbers: pl.DataFrame) -> Ids:
    user = numbers.columns[1]
    joined = rows.select(user).join(numbers, on=user, how="left", maintain_order="left")[_NUMBER]
    return joined.to_numpy().astype(np.int64)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele et al., OOPSLA 2014, figure 17)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _among(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    at = np.searchsorted(ascending, values)
    out: NDArray[np.bool_] = ascending[np.minimum(at, len(ascending) - 1)] == values
    return out
