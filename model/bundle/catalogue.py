"""What a bundle knows of its items beside their ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from model.bundle.raw import Lists
from model.bundle.vocabulary import Ids


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What the bundle knows of each item: raw ids and the raw values of every other item feature; NaN: not known."""

    ids: Ids
    columns: Mapping[str, NDArray[np.generic] | Lists]

    def values(self, feature: str, rows: Ids) -> list[Any]:
        """The raw value in each row (`Any`: as JSON has it), None for a number not known and for a row of -1."""
        column = self.columns[feature]
        if not len(self.ids):
            return [None] * len(rows)
        found = column.rows(rows) if isinstance(column, Lists) else column[rows].tolist()
        known = (rows >= 0) & ~(np.isnan(column[rows]) if _is_number(column) else np.zeros(len(rows), dtype=bool))
        return [value if here else None for here, value in zip(known.tolist(), found, strict=True)]


def _is_number(column: object) -> TypeGuard[NDArray[np.floating]]:
    return isinstance(column, np.ndarray) and column.dtype.kind == "f"
