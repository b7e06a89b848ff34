"""Raw values as the log or a request has them, checked: int64 ids, texts, numbers, lists of ids or texts.

A number that is not known is masked (`numpy.ma`), never NaN: NaN among the values is a mistake and refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.errors import EncodeError
from model.bundle.vocabulary import Ids


@dataclass(frozen=True, kw_only=True)
class Lists:
    """A list of ids or texts per row: the values end to end, and the length of each row's list [N]."""

    values: Ids | Sequence[str] | NDArray[np.str_]
    lengths: Ids

    @cached_property
    def _ends(self) -> Ids:
        return np.cumsum(self.lengths)

    def rows(self, rows: Ids) -> list[list[Any]]:
        """The lists of these rows (`Any`: ids or texts)."""
        ends = self._ends[rows]
        cuts = zip((ends - self.lengths[rows]).tolist(), ends.tolist(), strict=True)
        parts = (self.values[start:end] for start, end in cuts)
        return [part.tolist() if isinstance(part, np.ndarray) else list(part) for part in parts]


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


def as_lists(values: object, *, feature: str) -> Lists:
    """A list of ids or texts per row; the ids themselves are not checked. Raises EncodeError for anything else."""
    if isinstance(values, Lists):
        return values
    rows: list[Any] = list(values) if isinstance(values, list | tuple | np.ndarray) else [values]  # checked next
    if not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        found = _first(rows, lambda row: isinstance(row, list | tuple | np.ndarray))
        raise EncodeError(feature=feature, found=found, allowed="a list in every row")
    return Lists(values=list(chain.from_iterable(rows)), lengths=np.array(list(map(len, rows)), dtype=np.int64))


def as_numbers(values: object, *, feature: str) -> NDArray[np.float64]:
    """Raw dense values. Raises EncodeError for anything but finite numbers."""
    array = _column(values)
    if array.size and (array.dtype.kind not in "iuf" or _holds(values, bool) or not np.isfinite(array).all()):
        raise EncodeError(feature=feature, found=_first(values, _is_number), allowed="finite numbers")
    return array.astype(np.float64, copy=False)


def given(values: object) -> NDArray[np.bool_] | None:
    """[N] which rows of a column are given, None if all are."""
    return ~np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None


def _column(values: object) -> NDArray[np.generic]:
    """A one-dimensional array; of dtype object, which no feature takes, if the values are lists themselves."""
    try:
        array = values.filled(0) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
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
