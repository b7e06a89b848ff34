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
from model.data.columns import history_columns
from model.data.data_config import Negatives
from model.data.reading import Reading

_ROUNDS = 50  # after that many draws a user who met nearly every item goes without
_ROW, _PLACE = "__row", "__place"


@dataclass(frozen=True)
class Splits:
    """Train, valid and test rows."""

    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame


def next_items(rows: pl.DataFrame, schema: Schema, reading: Reading) -> pl.DataFrame:
    """The impressions of behaviors that have a history: what came next. Those without one predict nothing."""
    history = pl.col(history_columns(schema)[schema.keys.item]).list.len()
    kept = rows.filter(history > 0)
    reading.leave_out("next item without a history", len(rows) - len(kept))
    return kept


def with_drawn(
    rows: pl.DataFrame, items: pl.DataFrame, met: pl.DataFrame, schema: Schema, draw: "Draw"
) -> pl.DataFrame:
    """Behind every row the same one with an item that its user never met, and label 0.

    items  the catalogue: the drawn item's features      met  user and item of every behavior
    """
    keys = schema.keys
    drawn = draw.unseen(rows[keys.user], met[keys.user], met[keys.item])
    features = [f.name for f in schema.item]
    rows = rows.with_row_index(_ROW)
    label = pl.lit(0, dtype=rows.schema[keys.label]).alias(keys.label)
    other = rows.drop(features).with_columns(drawn.alias(keys.item), label).filter(pl.col(keys.item).is_not_null())
    other = other.join(items.select(features), on=keys.item, how="left", maintain_order="left").select(rows.columns)
    casts = {name: dtype for name, dtype in rows.schema.items() if name in features}
    both = pl.concat([rows, other.cast(casts)])  # type: ignore[arg-type]  # polars asks for dict of its own union
    return both.sort(_ROW, maintain_order=True).drop(_ROW)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How items are drawn: all alike, or as often as they were met."""

    negatives: Negatives
    rng: np.random.Generator
    reading: Reading

    def unseen(self, users: pl.Series, met_users: pl.Series, met_items: pl.Series) -> pl.Series:
        """For each of `users` an item that it is not among `met_items` of `met_users` with; null if none was found.

        Raises ConfigError if the log has one item only.
        """
        pool = (met_items.unique().sort() if self.negatives == "uniform" else met_items).to_numpy()
        ids, item_at = np.unique(met_items.to_numpy(), return_inverse=True)
        if len(ids) < 2:
            raise ConfigError(file="the log", key="items", found=len(ids), allowed="two or more, to draw another one")
        numbers = met_users.unique().to_frame("user").with_row_index("number")
        met = _numbers(met_users, numbers) * len(ids) + item_at
        seen = np.unique(met)
        owner = _numbers(users, numbers) * len(ids)
        drawn = np.full(len(users), -1, dtype=np.int64)
        missing = np.arange(len(users))
        for _ in range(_ROUNDS):
            drawn[missing] = pool[self.rng.integers(len(pool), size=len(missing))]
            missing = missing[_among(owner[missing] + np.searchsorted(ids, drawn[missing]), seen)]
            if not len(missing):
                break
        self.reading.leave_out("non-click that no item was found for: the user met nearly all", len(missing))
        out = pl.Series("drawn", drawn)
        return out.scatter(missing, None) if len(missing) else out


def last_of_users(rows: pl.DataFrame, schema: Schema) -> Splits:
    """Each user's last behavior tests, the one before validates, earlier ones train.

    The order is that of `rows`, which is by time. Later days of one user train beside earlier ones of another, so this
    split tells less of the future than the one by time; it is that of most published figures.
    """
    keys = schema.keys
    clicks = (pl.col(keys.label) == 1).cum_sum(reverse=True).over(keys.user)
    # A non-click stands behind its click, and so counts one click fewer.
    placed = rows.with_columns((clicks + (pl.col(keys.label) == 0).cast(pl.UInt32)).alias(_PLACE))
    parts = {"test": pl.col(_PLACE) == 1, "valid": pl.col(_PLACE) == 2, "train": pl.col(_PLACE) > 2}
    found = {name: placed.filter(where).drop(_PLACE) for name, where in parts.items()}
    for name, part in found.items():
        if not len(part):
            allowed = "users with four behaviors or more"
            raise ConfigError(file="the log", key="data.split", found=f"no rows for {name}", allowed=allowed)
    return Splits(**found)


def _numbers(users: pl.Series, numbers: pl.DataFrame) -> NDArray[np.int64]:
    joined = users.to_frame("user").join(numbers, on="user", how="left", maintain_order="left")["number"]
    return joined.to_numpy().astype(np.int64)


def _among(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    at = np.searchsorted(ascending, values)
    out: NDArray[np.bool_] = ascending[np.minimum(at, len(ascending) - 1)] == values
    return out
