"""The one encoder: raw values to index tensors, the same code in training and in serving.

    user, context values --encode_request--> user_sparse, user_dense, context_sparse, context_dense
    behaviors            --encode_history--> history [U, L, F], history_len [U]
    candidates           --encode_items----> item_sparse [N, F], item_dense [N, D]

Tensors of a side that has no such feature are left out. Ids are int64 throughout, dense values float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.errors import EncodeError
from model.bundle.records import NOT_GIVEN, Behaviors
from model.bundle.schema import FIRST_ID, PADDING, UNKNOWN, Feature, Schema, Side
from model.bundle.vocabulary import Ids, Vocabulary

Tensors = dict[str, NDArray[np.generic]]
SIDES: tuple[Side, ...] = ("user", "item", "context")
Columns = Mapping[str, object]  # raw values by feature name, each a sequence or array of equal length

# Standardised values beyond this are outliers or nonsense; clipping keeps one of them from saturating every score.
_DENSE_CLIP = 10.0


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Mean and standard deviation of a dense feature over the training split."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What the bundle knows of each item: raw ids and the raw values of every other item feature."""

    ids: Ids
    columns: Mapping[str, NDArray[np.generic]]


class Encoder:
    """Vocabularies, scalings and the item catalogue of one bundle, applied."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Mapping[str, Vocabulary],
        *,
        scalings: Mapping[str, Scaling],
        catalogue: Catalogue,
    ) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        self.scalings = scalings
        self.catalogue = catalogue
        self._fields = {side: (schema.sparse(side), schema.dense(side)) for side in SIDES}
        self._item_names = [f.name for f in schema.sparse("item")]
        self._catalogue_index = Vocabulary(catalogue.ids)
        self._catalogue_sparse, self._catalogue_dense = self._encode_catalogue()

    def encode_request(self, user: Columns, context: Columns, *, rows: int) -> Tensors:
        """User and context features of `rows` users. A feature that is not given is UNKNOWN, or the mean if dense."""
        out: Tensors = {}
        for side, columns in (("user", user), ("context", context)):
            self._add(out, side, self._sparse(side, columns, rows), self._dense(side, columns, rows))  # type: ignore[arg-type]
        return out

    def encode_items(self, columns: Columns) -> Tensors:
        """Candidates. Features that are not given come from the catalogue by item id, else UNKNOWN or the mean."""
        item = self.schema.keys.item
        ids = as_ids(columns[item], feature=item)
        columns = {**columns, item: ids}
        sparse_fields, dense_fields = self._fields["item"]
        if all(feature.name in columns for feature in self.schema.item):
            sparse, dense = self._sparse("item", columns, len(ids)), self._dense("item", columns, len(ids))
        else:
            at = self._catalogue_index.lookup(ids)  # row 1 of the encoded catalogue: an item nobody told us about
            sparse, dense = self._catalogue_sparse[at], self._catalogue_dense[at]
            self._fill(sparse, sparse_fields, columns)
            self._fill_dense(dense, dense_fields, columns)
        out: Tensors = {}
        self._add(out, "item", sparse, dense)
        return out

    def encode_behaviors(self, behaviors: Behaviors) -> Ids:
        """Behaviors as indices [T, F], one column per `schema.behavior`, F = 0 columns if there are none."""
        out = np.empty((len(behaviors), len(self.schema.behavior)), dtype=np.int64)
        for i, sequence in enumerate(self.schema.behavior):
            out[:, i] = self._behavior_column(sequence.shares, behaviors)
        return out

    def encode_history(self, behaviors: Sequence[Behaviors]) -> Tensors:
        """One history per user, newest `max_history` kept, padded at the end to the longest of them."""
        kept = [b[-self.schema.max_history :] for b in behaviors]
        lengths = np.array([len(b) for b in kept], dtype=np.int64)
        flat = self.encode_behaviors(np.concatenate(kept) if len(kept) != 1 else kept[0])
        return pad_history(flat, lengths)

    def item_index(self, encoded: Tensors) -> Ids:
        """[N] the candidates' index in the vocabulary of items."""
        at = self._item_names.index(self.schema.keys.item)
        return np.asarray(encoded["item_sparse"][:, at], dtype=np.int64)

    def unknown_items(self, encoded: Tensors) -> NDArray[np.bool_]:
        """[N] true where the candidate's item id was never seen in training."""
        return np.equal(self.item_index(encoded), UNKNOWN)

    def unknown_features(self, encoded: Tensors) -> NDArray[np.bool_]:
        """[N] true where any sparse feature of the candidate was never seen in training."""
        return np.asarray((encoded["item_sparse"] == UNKNOWN).any(axis=1))

    def _add(self, out: Tensors, side: Side, sparse: Ids, dense: NDArray[np.float32]) -> None:
        if self._fields[side][0]:
            out[f"{side}_sparse"] = sparse
        if self._fields[side][1]:
            out[f"{side}_dense"] = dense

    def _sparse(self, side: Side, columns: Columns, rows: int) -> Ids:
        features = self._fields[side][0]
        out = np.full((rows, len(features)), UNKNOWN, dtype=np.int64)
        self._fill(out, features, columns)
        return out

    def _dense(self, side: Side, columns: Columns, rows: int) -> NDArray[np.float32]:
        features = self._fields[side][1]
        out = np.zeros((rows, len(features)), dtype=np.float32)
        self._fill_dense(out, features, columns)
        return out

    def _fill(self, out: Ids, features: Sequence[Feature], columns: Columns) -> None:
        for i, feature in enumerate(features):
            if feature.name in columns:
                out[:, i] = self._lookup(feature, columns[feature.name])

    def _fill_dense(self, out: NDArray[np.float32], features: Sequence[Feature], columns: Columns) -> None:
        for i, feature in enumerate(features):
            if feature.name in columns:
                out[:, i] = self._scale(feature, columns[feature.name])

    def _lookup(self, feature: Feature, values: object) -> Ids:
        vocabulary = self.vocabularies[feature.name]
        if feature.dtype == "str":
            return vocabulary.lookup(as_texts(values, feature=feature.name))
        return vocabulary.lookup(as_ids(values, feature=feature.name))

    def _scale(self, feature: Feature, values: object) -> NDArray[np.float32]:
        numbers = as_numbers(values, feature=feature.name)
        scaling = self.scalings[feature.name]
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is clipped as any outlier is
            scaled: NDArray[np.float64] = np.clip((numbers - scaling.mean) / scaling.std, -_DENSE_CLIP, _DENSE_CLIP)
        return scaled.astype(np.float32)

    def _behavior_column(self, shares: str, behaviors: Behaviors) -> Ids:
        keys = self.schema.keys
        items = np.ascontiguousarray(behaviors["item"])
        if shares == keys.item:
            return self.vocabularies[shares].lookup(items)
        given = np.ascontiguousarray(behaviors["category"])
        if shares == keys.category and (given != NOT_GIVEN).all():
            return self.vocabularies[shares].lookup(given)
        known: Ids = self._catalogue_sparse[self._catalogue_index.lookup(items), self._item_names.index(shares)]
        if shares != keys.category:
            return known
        return np.where(given == NOT_GIVEN, known, self.vocabularies[shares].lookup(given))

    def _encode_catalogue(self) -> tuple[Ids, NDArray[np.float32]]:
        """Encoded item features by catalogue index; rows 0 and 1 are an item nobody told us about."""
        rows = len(self.catalogue.ids)
        columns = {**self.catalogue.columns, self.schema.keys.item: self.catalogue.ids}
        sparse = np.full((rows + FIRST_ID, len(self._item_names)), UNKNOWN, dtype=np.int64)
        dense = np.zeros((rows + FIRST_ID, len(self.schema.dense("item"))), dtype=np.float32)
        sparse[FIRST_ID:] = self._sparse("item", columns, rows)
        dense[FIRST_ID:] = self._dense("item", columns, rows)
        return sparse, dense


def pad_history(flat: Ids, lengths: Ids) -> Tensors:
    """Behaviors of several users end to end [T, F] as history [U, L, F] padded at the end, and history_len [U].

    L is the longest length, at least 1, because a graph with an empty axis is a graph nobody tests.
    """
    width = max(int(lengths.max(initial=0)), 1)
    history = np.full((len(lengths), width, flat.shape[1]), PADDING, dtype=np.int64)
    history[np.arange(width) < lengths[:, None]] = flat
    return {"history": history, "history_len": lengths}


def as_ids(values: object, *, feature: str) -> Ids:
    """Raw ids as int64. Raises EncodeError for anything but integers in [0, 2^63)."""
    array = _column(values)
    if array.dtype.kind == "u" and array.size and int(array.max()) < 2**63:
        array = array.astype(np.int64)
    if array.size and (array.dtype.kind != "i" or _holds(values, bool) or int(array.min()) < 0):
        raise EncodeError(feature=feature, found=_first(values, _is_id), allowed="integers from 0 to 2^63 - 1")
    return array.astype(np.int64, copy=False)


def as_texts(values: object, *, feature: str) -> Sequence[str]:
    """Raw text ids. Raises EncodeError for anything but strings."""
    texts: list[str] = list(values)  # type: ignore[call-overload]  # any iterable; what is in it is checked next
    if not all(isinstance(text, str) for text in texts):
        raise EncodeError(feature=feature, found=_first(texts, lambda v: isinstance(v, str)), allowed="strings")
    return texts


def as_numbers(values: object, *, feature: str) -> NDArray[np.float64]:
    """Raw dense values. Raises EncodeError for anything but finite numbers."""
    array = _column(values)
    if array.size and (array.dtype.kind not in "iuf" or _holds(values, bool) or not np.isfinite(array).all()):
        raise EncodeError(feature=feature, found=_first(values, _is_number), allowed="finite numbers")
    return array.astype(np.float64, copy=False)


def _column(values: object) -> NDArray[np.generic]:
    """A one-dimensional array; of dtype object, which no feature takes, if the values are lists themselves."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        return np.empty(1, dtype=np.object_)
    return array if array.ndim == 1 else np.empty(1, dtype=np.object_)


def _holds(values: object, kind: type) -> bool:
    """Whether a list hides a value of `kind`: numpy turns [1, True] into two integers."""
    return isinstance(values, list | tuple) and kind in set(map(type, values))


def _is_id(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= int(value) < 2**63


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(-1e308 < value < 1e308)  # also false for NaN, and for an integer that no float can hold


def _first(values: object, good: object) -> object:
    """The first value at fault, for the message; shortened, because it may be anything."""
    for value in values if isinstance(values, list | tuple | np.ndarray) else [values]:
        if not good(value):  # type: ignore[operator]  # a predicate of this module
            return value if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return "a mix of types"
