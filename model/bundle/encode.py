"""The one encoder: raw values to index tensors, the same code in training and in serving.

    user, context values --encode_request--> user_sparse, user_dense, context_sparse, context_dense
    behaviors            --encode_history--> history [U, L, F], history_len [U]
    candidates           --encode_items----> item_sparse [N, F], item_dense [N, D]

Tensors of a side that has no such feature are left out. Ids are int64 throughout, dense values float32. A feature takes
one column of its tensor, a list of ids as many as it may have values (`Schema.columns`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.bundle.catalogue import Catalogue
from model.bundle.dense import Buckets, Fitted, absent_value
from model.bundle.gaps import gap_index, kept_after_cut
from model.bundle.padding import pad_history, padded
from model.bundle.raw import as_ids, as_lists, as_numbers, as_texts, given
from model.bundle.records import NOT_GIVEN, Behaviors
from model.bundle.schema import FIRST_ID, PADDING, SIDES, UNKNOWN, Feature, Schema, Side
from model.bundle.vocabulary import IdIndex, Ids, Vocabulary

Tensors = dict[str, NDArray[np.generic]]
Columns = Mapping[str, object]  # raw values by feature name, each a sequence or array of equal length, or `Lists`


class Encoder:
    """Vocabularies, scalings and the item catalogue of one bundle, applied."""

    def __init__(
        self,
        schema: Schema,
        vocabularies: Mapping[str, IdIndex],
        *,
        scalings: Mapping[str, Fitted],
        catalogue: Catalogue,
    ) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        self.scalings = scalings
        self.catalogue = catalogue
        self._columns = {side: schema.columns(side) for side in SIDES}
        self._embedded = {
            side: tuple(zip(schema.sparse(side), self._columns[side].values(), strict=True)) for side in SIDES
        }
        self._dense = {side: list(enumerate(schema.dense(side))) for side in SIDES}
        self._absent = {side: self._absent_row(side) for side in SIDES}
        ids = [at for f, at in self._embedded["item"] if f.kind != "dense"]
        self._item_ids = None if len(ids) == len(self._embedded["item"]) else np.r_[tuple(ids)]
        self._history_columns = schema.history_columns()
        self._gaps = schema.gap_columns()
        self._history_width = max([0, *(s.stop for s in self._history_columns)]) + len(self._gaps)
        self._catalogue_index = Vocabulary(catalogue.ids)
        self._catalogue_sparse, self._catalogue_dense = self._encode_catalogue()

    def embedding_rows(self) -> dict[str, int]:
        """Rows of each embedding table by feature, padding and unknown included."""
        buckets = {name: len(fitted) for name, fitted in self.scalings.items() if isinstance(fitted, Buckets)}
        return {**{name: len(index) for name, index in self.vocabularies.items()}, **buckets}

    def encode_request(self, user: Columns, context: Columns, *, rows: int) -> Tensors:
        """User and context features of `rows` users. One that is not given is UNKNOWN, or what `missing` says."""
        out: Tensors = {}
        given: dict[Side, Columns] = {"user": user, "context": context}
        for side, columns in given.items():
            self._add(out, side, *self._side(side, columns, rows))
        return out

    def encode_items(self, columns: Columns, *, catalogue_rows: Ids | None = None) -> Tensors:
        """Candidates. Features that are not given come from the catalogue by item id, else as in `encode_request`.

        `catalogue_rows` [N] spares a second look where the caller has them already.
        """
        item = self.schema.keys.item
        ids = as_ids(columns[item], feature=item)
        columns = {**columns, item: ids}
        if all(feature.name in columns for feature in self.schema.item):
            sparse, dense = self._side("item", columns, len(ids))
        else:
            rows = self.catalogue_rows(ids) if catalogue_rows is None else catalogue_rows
            at = rows + FIRST_ID  # row 1 of the encoded catalogue: an item nobody told us about
            sparse, dense = self._catalogue_sparse[at], self._catalogue_dense[at]
            self._fill("item", columns, sparse, dense)
        out: Tensors = {}
        self._add(out, "item", sparse, dense)
        return out

    def catalogue_rows(self, items: Ids) -> Ids:
        """[N] where each item stands in the catalogue, -1 where it does not."""
        return self._catalogue_index.lookup(items) - FIRST_ID

    def fill_items(self, encoded: Tensors, rows: Ids, columns: Columns) -> None:
        """Put features that became known later in some `rows` of what `encode_items` gave, in place.

        Raises EncodeError, and changes nothing, for a value that is not one of its feature.
        """
        nothing = np.empty((len(rows), 0), dtype=np.int64)
        sparse = encoded["item_sparse"][rows] if "item_sparse" in encoded else nothing
        dense = encoded["item_dense"][rows] if "item_dense" in encoded else nothing
        self._fill("item", columns, sparse, dense)  # type: ignore[arg-type]  # as `_side` made them
        for name, filled in (("item_sparse", sparse), ("item_dense", dense)):
            if name in encoded:
                encoded[name][rows] = filled

    def encode_behaviors(self, behaviors: Behaviors) -> Ids:
        """Behaviors as indices [T, F]: the fields of `schema.behavior` side by side, without the gaps."""
        out = np.empty((len(behaviors), self._history_width - len(self._gaps)), dtype=np.int64)
        for sequence, at in zip(self.schema.behavior, self._history_columns, strict=True):
            out[:, at] = self._behavior_columns(sequence.shares, behaviors)
        return out

    def encode_ragged(self, behaviors: Behaviors, lengths: Ids, *, now_ms: Ids | None = None) -> tuple[Ids, Ids]:
        """Histories of U users end to end as indices [T, F], gaps included, and what is left of `lengths` after a cut.

        `now_ms` [U] is the time of each user's request; without it the gaps to the request are UNKNOWN.
        """
        times = self.schema.times
        if times is None:
            return self.encode_behaviors(behaviors), lengths
        if times.cut_s:
            kept = kept_after_cut(behaviors["time"], lengths, cut_ms=times.cut_s * 1000)
            before = np.concatenate([[0], np.cumsum(lengths)])
            lengths = np.diff(np.concatenate([[0], np.cumsum(kept)])[before])
            behaviors = behaviors[kept]
        out = np.empty((len(behaviors), self._history_width), dtype=np.int64)
        out[:, : self._history_width - len(self._gaps)] = self.encode_behaviors(behaviors)
        for gap, at in self._gaps.items():
            out[:, at] = gap_index(behaviors["time"], lengths, gap=gap, now=now_ms)
        return out, lengths

    def encode_history(self, behaviors: Sequence[Behaviors], *, now_ms: Ids | None = None) -> Tensors:
        """One history per user, newest `max_history` kept, padded at the end to the longest; see `encode_ragged`."""
        kept = [b[-self.schema.max_history :] for b in behaviors]
        lengths = np.array([len(b) for b in kept], dtype=np.int64)
        flat, lengths = self.encode_ragged(np.concatenate(kept) if len(kept) != 1 else kept[0], lengths, now_ms=now_ms)
        return pad_history(flat, lengths)

    def item_index(self, encoded: Tensors) -> Ids:
        """[N] the candidates' index in the vocabulary of items."""
        at = self._columns["item"][self.schema.keys.item].start
        return np.asarray(encoded["item_sparse"][:, at], dtype=np.int64)

    def user_index(self, encoded: Tensors) -> Ids | None:
        """[U] the users' index in the vocabulary of users; None where user ids are no feature."""
        at = self._columns["user"].get(self.schema.keys.user)
        return None if at is None else np.asarray(encoded["user_sparse"][:, at.start], dtype=np.int64)

    def unknown_items(self, encoded: Tensors) -> NDArray[np.bool_]:
        """[N] true where the candidate's item id was never seen in training."""
        return np.equal(self.item_index(encoded), UNKNOWN)

    def unknown_features(self, encoded: Tensors) -> NDArray[np.bool_]:
        """[N] true where any id of the candidate was never seen in training."""
        sparse = encoded["item_sparse"]
        ids = sparse if self._item_ids is None else sparse[:, self._item_ids]
        return np.asarray((ids == UNKNOWN).any(axis=1))

    def _add(self, out: Tensors, side: Side, sparse: Ids, dense: NDArray[np.float32]) -> None:
        if self._embedded[side]:
            out[f"{side}_sparse"] = sparse
        if self._dense[side]:
            out[f"{side}_dense"] = dense

    def _absent_row(self, side: Side) -> tuple[Ids, NDArray[np.float32]]:
        """Both tensors' row of a side of which nothing is given: one UNKNOWN per feature, and `absent_value`s."""
        sparse = np.full(sum(f.places for f, _ in self._embedded[side]), PADDING, dtype=np.int64)
        for feature, at in self._embedded[side]:
            sparse[at.start] = self._absent_value(feature) if feature.kind == "dense" else UNKNOWN
        dense = [self._absent_value(feature) for _, feature in self._dense[side]]
        return sparse, np.array(dense, dtype=np.float32)

    def _absent_value(self, feature: Feature) -> float:
        return absent_value(feature, self.scalings[feature.name])

    def _side(self, side: Side, columns: Columns, rows: int) -> tuple[Ids, NDArray[np.float32]]:
        sparse, dense = self._absent[side]
        sparse, dense = np.tile(sparse, (rows, 1)), np.tile(dense, (rows, 1))
        self._fill(side, columns, sparse, dense)
        return sparse, dense

    def _fill(self, side: Side, columns: Columns, sparse: Ids, dense: NDArray[np.float32]) -> None:
        for feature, at in self._embedded[side]:
            if feature.name in columns:
                sparse[:, at] = self._lookup(feature, columns[feature.name])
        for i, feature in self._dense[side]:
            if feature.name in columns:
                dense[:, i] = self._scaled(feature, columns[feature.name])

    def _lookup(self, feature: Feature, values: object) -> Ids:
        """[N, places] indices of one feature's values."""
        match feature.kind:
            case "multi":
                lists = as_lists(values, feature=feature.name)
                return padded(self._ids(feature, lists.values), lists.lengths, width=feature.max_values)
            case "dense":
                return self._scaled(feature, values)[:, None].astype(np.int64)
            case _:
                return self._ids(feature, values)[:, None]

    def _ids(self, feature: Feature, values: object) -> Ids:
        read = as_texts if feature.dtype == "str" else as_ids
        return self.vocabularies[feature.name].lookup(read(values, feature=feature.name))

    def _scaled(self, feature: Feature, values: object) -> NDArray[np.float64] | Ids:
        scaled = self.scalings[feature.name].apply(as_numbers(values, feature=feature.name))
        known = given(values)
        return scaled if known is None else np.where(known, scaled, self._absent_value(feature))

    def _behavior_columns(self, shares: str, behaviors: Behaviors) -> Ids:
        """[T, places] indices of the item feature `shares` of each behavior."""
        keys = self.schema.keys
        items = np.ascontiguousarray(behaviors["item"])
        if shares == keys.item:
            return self.vocabularies[shares].lookup(items)[:, None]
        category = np.ascontiguousarray(behaviors["category"])
        if shares == keys.category and (category != NOT_GIVEN).all():
            return self.vocabularies[shares].lookup(category)[:, None]
        known: Ids = self._catalogue_sparse[self._catalogue_index.lookup(items), self._columns["item"][shares]]
        if shares != keys.category:
            return known
        return np.where(category[:, None] == NOT_GIVEN, known, self.vocabularies[shares].lookup(category)[:, None])

    def _encode_catalogue(self) -> tuple[Ids, NDArray[np.float32]]:
        """Encoded item features by catalogue index; rows 0 and 1 are an item nobody told us about."""
        rows = len(self.catalogue.ids)
        numbers = {f.name for f in self.schema.item if f.kind == "dense"}
        columns = {n: np.ma.masked_invalid(c) if n in numbers else c for n, c in self.catalogue.columns.items()}  # type: ignore[arg-type]  # numbers are no lists
        sparse, dense = self._side("item", {}, rows + FIRST_ID)
        self._fill("item", {**columns, self.schema.keys.item: self.catalogue.ids}, sparse[FIRST_ID:], dense[FIRST_ID:])
        return sparse, dense
