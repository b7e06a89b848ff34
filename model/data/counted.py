"""What is learned from the training split and told of every split, gathered piece by piece in little memory.

Counts are held per distinct value, of which vocabularies are made anyway. Of each dense feature at most 2^20 training
values are held, drawn evenly: up to that many rows its scaling is exact, beyond it is that of a sample.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from model.bundle.encode import Encoder
from model.bundle.schema import SIDES, Feature, Schema
from model.bundle.vocabulary import Hashed, IdIndex, Ids, Vocabulary
from model.data.columns import history_columns, only
from model.data.pile import Tally
from model.data.ragged import to_flat
from model.data.scaling import fit_scaling
from model.data.vocab import catalogue_of, vocabulary_of

_SAMPLE = 1 << 20  # values of a dense feature

Count = Mapping[str, pl.Expr]


class Sample:
    """At most `_SAMPLE` of many numbers, drawn evenly, and always the lowest and the highest."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._values, self._keys = np.empty(0), np.empty(0)

    def add(self, numbers: np.ndarray) -> None:
        """Offer more numbers. Those with the lowest random keys stay, the extremes among them."""
        values = np.concatenate([self._values, numbers])
        keys = np.concatenate([self._keys, self._rng.random(len(numbers))])
        if len(values) > _SAMPLE:
            keys[[values.argmin(), values.argmax()]] = -1.0
            kept = np.argpartition(keys, _SAMPLE)[:_SAMPLE]
            values, keys = values[kept], keys[kept]
        self._values, self._keys = values, keys

    def values(self) -> pl.Series:
        """What was kept."""
        return pl.Series(self._values, dtype=pl.Float64)


@dataclass(kw_only=True)
class SplitCounts:
    """Of one split: rows and clicks by item, rows by user, behaviors in histories, first and last time."""

    items: Tally = field(default_factory=Tally)
    users: Tally = field(default_factory=Tally)
    behaviors: int | None = None  # none: the schema has no history
    first: int | None = None
    last: int | None = None

    def add(self, rows: pl.DataFrame, lengths: Ids, schema: Schema) -> None:
        """Count rows with histories of these lengths [N]."""
        keys = schema.keys
        if not len(rows):
            return
        shown = [pl.len().cast(pl.Int64).alias("rows"), pl.col(keys.label).cast(pl.Int64).sum().alias("clicks")]
        self.items.add(rows.group_by(pl.col(keys.item).alias("id")).agg(shown))
        self.users.add(rows.group_by(pl.col(keys.user).alias("id")).agg(shown[0]))
        if schema.behavior:
            self.behaviors = (self.behaviors or 0) + int(lengths.sum())
        times = rows[keys.timestamp].to_numpy()
        self.first = min(int(times.min()), times.min() if self.first is None else self.first)
        self.last = max(int(times.max()), times.max() if self.last is None else self.last)

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.items.total()["rows"].sum())

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """As `assessment.summary` tells of a split in memory."""
        items, rows = self.items.total(), self.rows
        return {
            "rows": rows,
            "users": len(self.users.total()),
            "items": len(items),
            "click_rate": round(int(items["clicks"].sum()) / rows, 6),
            "mean_history": None if self.behaviors is None else round(self.behaviors / rows, 6),
            "first": int(self.first or 0),
            "last": int(self.last or 0),
        }


class TrainCounts:
    """Training values: how often each id was met, and numbers of the dense features."""

    def __init__(self, schema: Schema, items: pl.DataFrame, *, rng: np.random.Generator) -> None:
        features = [feature for side in SIDES for feature in schema.features(side)]
        self._schema, self._items = schema, items
        self._dense = {f.name: Sample(rng) for f in features if f.kind == "dense"}
        self._ids = {f.name: Tally() for f in features if f.kind != "dense" and not f.hash_buckets}
        self._features = {feature.name: feature for feature in features}

    def add(self, rows: pl.DataFrame, clicks: pl.DataFrame, met: Ids) -> None:
        """Count training rows, and `clicks` that are met in so many of their histories [C] each."""
        for name, tally in self._ids.items():
            for values, times in self._seen(self._features[name], rows, clicks, met):
                counted = pl.DataFrame({"id": values, "len": times}).group_by("id").agg(pl.col("len").sum())
                tally.add(counted.filter(pl.col("len") > 0))
        for name, sample in self._dense.items():
            sample.add(rows[name].drop_nulls().to_numpy())

    def encoder(self) -> Encoder:
        """As `fit_encoder` of a log in memory. Raises ConfigError for a dense feature without any value."""
        vocabularies: dict[str, IdIndex] = {}
        for name, feature in self._features.items():
            if feature.kind != "dense":
                vocabularies[name] = Hashed(feature.hash_buckets) if feature.hash_buckets else self._vocabulary(feature)
        scalings = {name: fit_scaling(self._features[name], s.values()) for name, s in self._dense.items()}
        return Encoder(self._schema, vocabularies, scalings=scalings, catalogue=catalogue_of(self._items, self._schema))

    def _vocabulary(self, feature: Feature) -> Vocabulary:
        return vocabulary_of(feature, self._ids[feature.name].total())

    def _seen(
        self, feature: Feature, rows: pl.DataFrame, clicks: pl.DataFrame, met: Ids
    ) -> Iterable[tuple[pl.Series, Ids]]:
        """Values of the feature and how often each counts: in the rows' own column, and in their histories."""
        own, _ = _flat(rows[feature.name], np.empty(0, dtype=np.int64))
        yield own, np.ones(len(own), dtype=np.int64)
        schema = self._schema
        if all(s.shares != feature.name for s in schema.behavior):
            return
        if feature.name in history_columns(schema):
            yield clicks[feature.name], met
            return
        told = clicks.select(schema.keys.item).with_columns(pl.Series("__met", met))
        items = only(self._items.select(schema.keys.item, feature.name), schema.keys.item, told[schema.keys.item])
        told = told.join(items, on=schema.keys.item, how="inner")
        yield _flat(told[feature.name], told["__met"].to_numpy())


def _flat(values: pl.Series, times: Ids) -> tuple[pl.Series, Ids]:
    """The values of lists one by one, each as often as its list; other values as they are."""
    if not isinstance(values.dtype, pl.List):
        return values, times
    flat, lengths = to_flat(values)
    return flat, np.repeat(times, lengths) if len(times) else times


def met_in(starts: Ids, lengths: Ids, clicks: int) -> Ids:
    """[C] in how many of the histories, given as slices of the clicks, each click is."""
    change = np.bincount(starts, minlength=clicks + 1) - np.bincount(starts + lengths, minlength=clicks + 1)
    met: Ids = np.cumsum(change)[:clicks]
    return met
