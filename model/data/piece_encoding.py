"""A piece of a log as encoded rows: every behavior is encoded once, however many histories it is in."""

from dataclasses import replace

import numpy as np
import polars as pl

from model.bundle.encode import Encoder
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit, behaviors_of, encode_rows, encode_told
from model.data.columns import history_columns
from model.data.piece_rows import PieceRows
from model.data.ragged import slices


class PieceEncoder:
    """A piece of which rows can be encoded."""

    def __init__(self, found: PieceRows, encoder: Encoder) -> None:
        self._found, self._encoder, schema = found, encoder, encoder.schema
        told = [*history_columns(schema), *([schema.keys.timestamp] if schema.times else [])]
        self._told = {key: found.behaviors[key].to_numpy() for key in told}
        self._encoded: Ids | None = None if schema.behavior else np.empty((0, 0), dtype=np.int64)
        if schema.behavior and schema.times is None:  # else it depends on the row what is encoded
            self._encoded = encoder.encode_behaviors(behaviors_of(self._told, schema)).astype(np.int32)

    def encode(self, numbers: Ids) -> EncodedSplit:
        """The rows of these numbers, with the histories they had then."""
        found, keys = self._found, self._encoder.schema.keys
        rows, lengths = found.rows[numbers], np.minimum(found.lengths[numbers], self._encoder.schema.max_history)
        at = slices(found.starts[numbers] + found.lengths[numbers] - lengths, lengths)
        if self._encoded is not None:
            history = self._encoded[at]
        else:
            told, now = {key: values[at] for key, values in self._told.items()}, rows[keys.timestamp].to_numpy()
            history, lengths = encode_told(told, lengths, self._encoder, now=now)
        out = encode_rows(rows, self._encoder, history=history, lengths=lengths)
        return replace(out, user=user_numbers(rows[keys.user]))


def user_numbers(users: pl.Series) -> Ids:
    """[N] a number per user: the id, or the hash of a text, whose place among the texts of all pieces is not known."""
    return (users.hash().reinterpret(signed=True) if users.dtype == pl.String else users.cast(pl.Int64)).to_numpy()
