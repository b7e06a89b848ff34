"""Behaviors that did not happen, for DIEN's auxiliary loss (DIEN, section 4.3): never part of an exported graph."""

import numpy as np

from model.bundle.encode import Encoder
from model.bundle.records import make_behaviors
from model.bundle.vocabulary import Ids, Vocabulary


class NegativeSampler:
    """Draws items of the training vocabulary, each with the category and other fields that the catalogue gives it.

    Where item ids are hashed, it draws among the buckets that the catalogue's items are in.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Raises ValueError if histories hold no item ids, or training saw fewer than two items."""
        schema = encoder.schema
        fields = [s.shares for s in schema.behavior]
        if schema.keys.item not in fields:
            raise ValueError(f"negatives need a behavior sequence of {schema.keys.item}, there is {fields}")
        self._item_at = schema.history_columns()[fields.index(schema.keys.item)].start
        vocabulary = encoder.vocabularies[schema.keys.item]
        ids = vocabulary.keys.astype(np.int64) if isinstance(vocabulary, Vocabulary) else encoder.catalogue.ids
        encoded = encoder.encode_behaviors(make_behaviors(ids))
        index, first = np.unique(encoded[:, self._item_at], return_index=True)  # one row per index
        if len(index) < 2:
            raise ValueError(f"negatives need two items or more in training, there are {len(index)}")
        self._encoded: Ids = encoded[first]
        self._row = np.full(len(vocabulary), -1, dtype=np.int64)  # of an item index in `_encoded`; -1: never drawn
        self._row[index] = np.arange(len(index))

    def sample(self, history: Ids, history_len: Ids, rng: np.random.Generator) -> Ids:
        """Per real position of `history` [B, L, F] another item than the one there, uniformly; padding stays 0.

        The gaps stay those of the real behavior: the negative is what could have happened at that time.
        """
        real = np.arange(history.shape[1]) < history_len[:, None]
        there = self._row[history[real][:, self._item_at]]  # negative where the item is never drawn
        known = there >= 0
        # One item fewer to choose from where one is excluded; stepping over that one keeps the draw uniform.
        drawn = rng.integers(len(self._encoded) - known.astype(np.int64))
        drawn += known & (drawn >= there)
        out = history.copy()
        out[real, : self._encoded.shape[1]] = self._encoded[drawn]
        return out
