"""A split as encoded tensors, in memory.

An `EncodedSplit` is a `rows.Split` that is in memory. N rows, B rows of a batch, T behaviors of all rows end to end,
L the longest history of a batch, F fields of a behavior.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.encode import Columns, Encoder, Tensors
from model.bundle.padding import pad_history
from model.bundle.records import Behaviors, make_behaviors
from model.bundle.schema import Schema, Side
from model.bundle.vocabulary import Ids
from model.data.batch_order import batches, by_length
from model.data.columns import history_columns, negative_columns, raw_column
from model.data.ragged import slices, to_flat
from model.data.rows import Drawn

_SIDES: tuple[Side, ...] = ("user", "context", "item")
_MS = 1000  # of a second: the log counts in seconds, stores and requests in milliseconds
_CHUNK = 1 << 20  # behaviors encoded at a time: their records are wide, and all at once would be most of the memory


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """One split, encoded once; batches are cut from it.

    label [N] float32; user [N] int64, equal for rows of one user (GAUC); timestamp [N] int64, seconds; request and
    items [N, ...] tensors by name; history [T, F] int64 and offsets [N + 1]: row i owns
    history[offsets[i] : offsets[i + 1]], and negatives [T, F] beside it if the log has them
    """

    label: NDArray[np.float32]
    user: Ids
    timestamp: Ids
    request: Tensors
    items: Tensors
    history: Ids
    offsets: Ids
    negatives: Ids | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    @property
    def lengths(self) -> Ids:
        """[N] behaviors in each row's history."""
        return np.diff(self.offsets)

    def parts(self, reader: int = 0, readers: int = 1) -> "Iterator[EncodedSplit]":
        """The split itself, which is in memory as a whole, or one reader's rows of it, not copied."""
        n = len(self)
        yield self if readers == 1 else self.between(n * reader // readers, n * (reader + 1) // readers)

    def scan(self, batch_size: int, *, reader: int = 0, readers: int = 1) -> Iterator[tuple[Ids, Tensors]]:
        """Batches of the rows sorted by length; several readers take turns."""
        for rows in by_length(self.lengths, batch_size)[reader::readers]:
            yield rows, self.take(rows)

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Drawn]:
        """An epoch's `batches`, all drawn at once."""
        drawn = list(batches(self.lengths, batch_size=batch_size, rng=rng, bucket=bucket))
        return (Drawn(rows=rows, size=len(rows)) for rows in drawn)

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self) / batch_size)

    def users(self, rows: Ids) -> Ids:
        """[B] the users of some rows."""
        return self.user[rows]

    def span(self) -> tuple[int, int]:
        """First and last timestamp."""
        return int(self.timestamp.min()), int(self.timestamp.max())

    def digest(self) -> str:
        """16 hexadecimal digits of all that the split holds."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            arrays = value if isinstance(value, dict) else {field.name: value} if value is not None else {}
            for name in sorted(arrays):
                digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
                digest.update(memoryview(arrays[name].copy(order="C")).cast("B") if arrays[name].size else b"")
        return digest.hexdigest()[:16]

    def take(self, rows: Ids) -> Tensors:
        """The tensors of a batch: user_*, context_* [B, ...], item_* [B, 1, ...], history [B, L, F], history_len [B],
        label [B]. Without behaviors in the schema there are no history tensors. Logged negatives are `negatives`
        [B, L, F].
        """
        out: Tensors = {name: _wide(tensor[rows]) for name, tensor in self.request.items()}
        out |= {name: _wide(tensor[rows])[:, None] for name, tensor in self.items.items()}
        if self.history.shape[1]:
            starts = self.offsets[rows]
            lengths = self.offsets[rows + 1] - starts
            at = slices(starts, lengths)
            out |= pad_history(self.history[at], lengths)
            if self.negatives is not None:
                out["negatives"] = pad_history(self.negatives[at], lengths)["history"]
        return {**out, "label": self.label[rows]}

    def between(self, start: int, stop: int) -> "EncodedSplit":
        """The rows from `start` to before `stop`, as views."""
        behaviors = slice(*self.offsets[[start, stop]].tolist())
        return self._of(slice(start, stop), behaviors, offsets=self.offsets[start : stop + 1] - behaviors.start)

    def rows(self, rows: Ids) -> "EncodedSplit":
        """The split of these rows, in this order."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        return self._of(rows, slices(starts, lengths), offsets=np.concatenate([[0], np.cumsum(lengths)]))

    def _of(self, rows: Ids | slice, behaviors: Ids | slice, *, offsets: Ids) -> "EncodedSplit":
        """Those rows with those behaviors, of which row i has the ones from offsets[i] to before offsets[i + 1]."""
        return EncodedSplit(
            label=self.label[rows],
            user=self.user[rows],
            timestamp=self.timestamp[rows],
            request={name: tensor[rows] for name, tensor in self.request.items()},
            items={name: tensor[rows] for name, tensor in self.items.items()},
            history=self.history[behaviors],
            offsets=offsets,
            negatives=None if self.negatives is None else self.negatives[behaviors],
        )


def encode_split(frame: pl.DataFrame, encoder: Encoder) -> EncodedSplit:
    """Encode a split with the methods that serve requests. Raises EncodeError for a value that cannot be encoded."""
    history, lengths = _history(frame, encoder, history_columns(encoder.schema))
    logged = negative_columns(encoder.schema)
    has_negatives = bool(logged) and set(logged.values()) <= set(frame.columns)
    negatives = _history(frame, encoder, logged)[0] if has_negatives else None
    return encode_rows(frame, encoder, history=history, lengths=lengths, negatives=negatives)


def encode_rows(
    frame: pl.DataFrame, encoder: Encoder, *, history: Ids, lengths: Ids, negatives: Ids | None = None
) -> EncodedSplit:
    """`encode_split` of a frame whose histories are encoded already: [T, F] end to end, and how long each is [N]."""
    keys = encoder.schema.keys
    user, context, item = (_columns(frame, encoder, side) for side in _SIDES)
    return EncodedSplit(
        label=frame[keys.label].to_numpy().astype(np.float32),
        user=_groups(frame[keys.user]),
        timestamp=frame[keys.timestamp].to_numpy(),
        request=encoder.encode_request(user, context, rows=len(frame)),
        items=encoder.encode_items(item),
        history=history,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        negatives=negatives,
    )


def _columns(frame: pl.DataFrame, encoder: Encoder, side: Side) -> Columns:
    return {f.name: raw_column(frame[f.name]) for f in encoder.schema.features(side)}


def _history(frame: pl.DataFrame, encoder: Encoder, columns: Mapping[str, str]) -> tuple[Ids, Ids]:
    """All rows' encoded behaviors end to end [T, F], and how many belong to each row [N].

    `columns` says which list column holds the items, and the categories, of what happened or of what did not.
    """
    schema = encoder.schema
    if not columns:
        return np.empty((0, 0), dtype=np.int64), np.zeros(len(frame), dtype=np.int64)
    if schema.times is not None:
        columns = {**columns, schema.keys.timestamp: schema.times.column}
    flat = {key: to_flat(frame[column].list.tail(schema.max_history)) for key, column in columns.items()}
    lengths = flat[schema.keys.item][1]
    told = {key: values.to_numpy() for key, (values, _) in flat.items()}
    return encode_told(told, lengths, encoder, now=frame[schema.keys.timestamp].to_numpy())


def encode_told(told: Mapping[str, Ids], lengths: Ids, encoder: Encoder, *, now: Ids) -> tuple[Ids, Ids]:
    """Behaviors end to end by key column, each [T], encoded some rows at a time; `now` [N] is each row's time."""
    now_ms = now * _MS
    before = np.concatenate([[0], np.cumsum(lengths)])
    encoded, kept = [], []
    for rows in _row_slices(before):
        part = slice(before[rows.start], before[rows.stop])
        behaviors = behaviors_of({key: values[part] for key, values in told.items()}, encoder.schema)
        few, left = encoder.encode_ragged(behaviors, lengths[rows], now_ms=now_ms[rows])
        encoded.append(few)
        kept.append(left)
    return np.concatenate(encoded), np.concatenate(kept)


def _row_slices(before: Ids) -> list[slice]:
    """Runs of rows with about `_CHUNK` behaviors each, at least one run; row i has behaviors from before[i] on."""
    rows = len(before) - 1
    edges = np.unique([0, *np.searchsorted(before, np.arange(0, before[-1], _CHUNK)), rows])
    return [slice(start, stop) for start, stop in pairwise(edges.tolist())] or [slice(0, rows)]


def behaviors_of(told: Mapping[str, Ids], schema: Schema) -> Behaviors:
    """Records of behaviors from their item, category and time in seconds, by key column."""
    keys = schema.keys
    times = told.get(keys.timestamp)
    category = told.get(keys.category or "")
    return make_behaviors(told[keys.item], category=category, time=None if times is None else times * _MS)


def _wide(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """Ids as int64: a split on disk keeps them in fewer bytes."""
    return tensor.astype(np.int64, copy=False) if tensor.dtype.kind == "i" else tensor


def _groups(users: pl.Series) -> Ids:
    """An integer per user: the id itself, or its place among the text ids."""
    integers = users.rank("dense") if users.dtype == pl.String else users
    return integers.cast(pl.Int64).to_numpy()
