"""Candidates that are newer than the bundle: what to ask for about them, and what the answer changes.

Their ids stay unknown to the net, so their `status` stays `unknown_item`; but their category, price and the like count.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from model.bundle.encode import Columns, Encoder, Tensors
from model.bundle.vocabulary import Ids

Features = Mapping[str, Any]  # raw values by feature name, as JSON has them
NewItems = Mapping[int, Features]

NONE: NewItems = {}


class ItemSource(Protocol):
    """Tells features of items. Never raises: an item that it cannot tell of is not in its answer."""

    def known(self, items: Sequence[int]) -> tuple[NewItems, list[int]]:
        """What is known at once, and the items that have to be looked up."""
        ...

    async def look_up(self, items: Sequence[int], *, timeout_s: float) -> NewItems:
        """Of those, what is known."""
        ...


class NewItemEncoder:
    """The part of encoding that only candidates outside the bundle's catalogue need."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._key = encoder.schema.keys.item
        self._features = frozenset(f.name for f in encoder.schema.item) - {self._key}

    def look(self, candidates: Columns) -> tuple[Ids | None, list[int]]:
        """The candidates' rows in the catalogue, if it is needed, and those that are not in it, each once."""
        if self._features <= candidates.keys():
            return None, []
        items: Ids = np.asarray(candidates[self._key], dtype=np.int64)
        rows = self._encoder.catalogue_rows(items)
        if int(rows.min(initial=0)) >= 0:  # the usual case
            return rows, []
        return rows, list(dict.fromkeys(items[rows < 0].tolist()))

    def fill(self, encoded: Tensors, candidates: Columns, found: NewItems) -> None:
        """Put what was found into the tensors of `encode_items`; what the request says goes before.

        A value that does not fit its feature leaves that item as unknown as it was.
        """
        wanted = self._features.difference(candidates)
        groups: dict[frozenset[str], list[tuple[int, Features]]] = {}
        for row, item in enumerate(np.asarray(candidates[self._key]).tolist()):
            if (features := found.get(item)) is not None and (names := wanted.intersection(features)):
                groups.setdefault(names, []).append((row, features))
        for names, rows in groups.items():
            if not self._filled(encoded, names, rows):
                for one in rows:
                    self._filled(encoded, names, [one])

    def _filled(self, encoded: Tensors, names: frozenset[str], rows: list[tuple[int, Features]]) -> bool:
        columns = {name: [features[name] for _, features in rows] for name in names}
        try:
            self._encoder.fill_items(encoded, np.array([row for row, _ in rows]), columns)
        except (ValueError, TypeError, OverflowError):  # EncodeError is a ValueError
            return False
        return True
