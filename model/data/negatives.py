"""Behaviors that did not happen, for DIEN's auxiliary loss (DIEN, section 4.3): never part of an exported graph."""

import numpy as np

from model.bundle.encode import Encoder
from model.bundle.records import make_behaviors
from model.bundle.schema import FIRST_ID
from model.bundle.vocabulary import Ids


class NegativeSampler:
    """Draws items of the training vocabulary, each with the category and other fields that the catalogue gives it."""

    def __init__(self, encoder: Encoder) -> None:
        """Raises ValueError if histories hold no item ids, or training saw fewer than two items."""
        schema = encoder.schema
        fields = [s.shares for s in schema.behavior]
        if schema.keys.item not in fields:
            raise ValueError(f"negatives need a behavior sequence of {schema.keys.item}, there is {fields}")
        keys = encoder.vocabularies[schema.keys.item].keys.astype(np.int64)
        if len(keys) < 2:
            raise ValueError(f"negatives need two items or more in training, there are {len(keys)}")
        self._item_at = fields.index(schema.keys.item)
        self._encoded: Ids = encoder.encode_behaviors(make_behaviors(keys))  # row i is the item of index i + FIRST_ID

    def sample(self, history: Ids, history_len: Ids, rng: np.random.Generator) -> Ids:
        """Per real position of `history` [B, L, F] another item than the one there, uniformly; padding stays 0."""
        real = np.arange(history.shape[1]) < history_len[:, None]
        there = history[real][:, self._item_at] - FIRST_ID  # negative where the item is unknown
        known = there >= 0
        # One item fewer to choose from where one is excluded; stepping over that one keeps the draw uniform.
        drawn = rng.integers(len(self._encoded) - known.astype(np.int64))
        drawn += known & (drawn >= there)
        out = np.zeros_like(history)
        out[real] = self._encoded[drawn]
        return out
