"""What is learned from the training split alone: vocabularies, scalings, and the items' prior click rates."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.raw import Lists
from model.bundle.schema import SIDES, UNKNOWN, Feature, Schema
from model.bundle.vocabulary import Hashed, IdIndex, Ids, Vocabulary
from model.data.columns import history_columns, item_columns
from model.data.ragged import to_flat
from model.data.scaling import fit_scaling
from model.data.task import Log

# Pseudo-impressions at the overall rate: an item needs about as many of its own before its rate counts half.
_PRIOR_STRENGTH = 20.0


def fit_encoder(log: Log, schema: Schema) -> Encoder:
    """The encoder of a log: vocabularies and scalings from `log.train` only, the catalogue from all of `log.items`.

    An id counts once per training row, a value of a list once per place in it, and either once per place in a training
    history where a sequence shares its feature; ids with fewer than `min_count` become UNKNOWN, the others are numbered
    in ascending order. A hashed feature learns nothing. Raises ConfigError for a dense feature without any value.
    """
    vocabularies: dict[str, IdIndex] = {}
    features = [feature for side in SIDES for feature in schema.features(side)]
    for feature in (f for f in features if f.kind != "dense"):
        hashed = feature.hash_buckets
        seen = [] if hashed else [log.train[feature.name], *_past(feature, log, schema)]
        vocabularies[feature.name] = Hashed(hashed) if hashed else _vocabulary(feature, seen)
    scalings = {f.name: fit_scaling(f, log.train[f.name]) for f in features if f.kind == "dense"}
    return Encoder(schema, vocabularies, scalings=scalings, catalogue=catalogue_of(log.items, schema))


def prior_ctr(log: Log, encoder: Encoder, *, before: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Smoothed click rate by item index [item vocabulary size], from the training split.

    (clicks of the item + 20 r) / (impressions of the item + 20), r being the click rate of all training rows, or what
    `before` said of an item that was known then. PADDING, UNKNOWN and items that only histories hold get r.
    """
    keys = encoder.schema.keys
    sums = [pl.len().cast(pl.Int64).alias("rows"), pl.col(keys.label).cast(pl.Int64).sum().alias("clicks")]
    return prior_of(log.train.group_by(pl.col(keys.item).alias("id")).agg(sums), encoder, before=before)


def prior_of(
    counted: pl.DataFrame, encoder: Encoder, *, before: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """`prior_ctr` from the columns id, rows and clicks, a row per item."""
    vocabulary = encoder.vocabularies[encoder.schema.keys.item]
    rate = int(counted["clicks"].sum()) / int(counted["rows"].sum())
    index = vocabulary.lookup(counted["id"].to_numpy())
    clicks = np.bincount(index, weights=counted["clicks"].to_numpy(), minlength=len(vocabulary))
    shown = np.bincount(index, weights=counted["rows"].to_numpy(), minlength=len(vocabulary))
    towards = np.full(len(vocabulary), rate)
    if before is not None:
        towards[: len(before)] = before
    prior = (clicks + _PRIOR_STRENGTH * towards) / (shown + _PRIOR_STRENGTH)
    prior[: UNKNOWN + 1] = rate
    out: NDArray[np.float32] = prior.astype(np.float32)
    return out


def _text_array(values: pl.Series) -> NDArray[np.str_]:
    """A text column as numpy's fixed-width strings, which can be stored without pickle."""
    return np.array(values.to_list(), dtype=np.str_)


def _past(feature: Feature, log: Log, schema: Schema) -> Iterable[pl.Series]:
    """The feature's values inside training histories, if a sequence shares it."""
    if all(s.shares != feature.name for s in schema.behavior):
        return
    told = history_columns(schema)
    if feature.name in told:
        yield to_flat(log.train[told[feature.name]])[0]
        return
    # Not in the log's lists: the encoder takes it from the catalogue by item, so it is counted there too.
    item = schema.keys.item
    past = to_flat(log.train[told[item]])[0].alias(item).to_frame()
    yield past.join(log.items.select(item, feature.name), on=item, how="inner")[feature.name]


def _vocabulary(feature: Feature, seen: Iterable[pl.Series]) -> Vocabulary:
    flat = [to_flat(values)[0] if isinstance(values.dtype, pl.List) else values for values in seen]
    return vocabulary_of(feature, pl.concat([values.alias("id") for values in flat]).to_frame().group_by("id").len())


def vocabulary_of(feature: Feature, counted: pl.DataFrame) -> Vocabulary:
    """The ids of the column `id` that were met `min_count` times or more by the column `len`, ascending."""
    kept = counted.filter(pl.col("len") >= feature.min_count)["id"].sort()
    return Vocabulary(_text_array(kept) if feature.dtype == "str" else kept.to_numpy())


def catalogue_of(items: pl.DataFrame, schema: Schema) -> Catalogue:
    """The catalogue as the encoder wants it."""
    item = schema.keys.item
    columns = {name: _stored(items[name]) for name in item_columns(schema) if name != item}
    ids: Ids = items[item].to_numpy()
    return Catalogue(ids=ids, columns=columns)


def _stored(values: pl.Series) -> NDArray[np.generic] | Lists:
    """A catalogue column as a bundle keeps it: texts as an array, a number that is not known as NaN."""
    if isinstance(values.dtype, pl.List):
        flat, lengths = to_flat(values)
        return Lists(values=_text_array(flat) if flat.dtype == pl.String else flat.to_numpy(), lengths=lengths)
    return _text_array(values) if values.dtype == pl.String else values.to_numpy()
