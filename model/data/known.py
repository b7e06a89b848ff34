"""What an earlier training learned of ids and items, which a later log is encoded by.

So an old id keeps its index. What was fitted to numbers (means, bucket edges) stays as the weights know it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.raw import Lists
from model.bundle.vocabulary import IdIndex, Vocabulary
from model.data.ragged import slices

LEARNED = "training row that the parent has learned"  # why it is left out


@dataclass(frozen=True, kw_only=True)
class Known:
    """An earlier run or bundle, without its net."""

    name: str
    version: str | None  # None of a run
    digest: str  # SHA-256 of a bundle's manifest, or of a run's weights
    encoder: Encoder
    prior_ctr: NDArray[np.float32]
    last: int  # time of its newest training row, in seconds

    def to_table(self) -> dict[str, str | None]:
        """What the child's manifest says about it."""
        return {"name": self.name, "version": self.version, "digest": self.digest}


def extended(parent: Encoder, fresh: Encoder) -> Encoder:
    """The parent's encoder that knows the ids and the items of `fresh` too, which was fitted on the new rows."""
    vocabularies = {n: _with_new(index, fresh.vocabularies[n]) for n, index in parent.vocabularies.items()}
    catalogue = _merged(parent.catalogue, fresh.catalogue)
    return Encoder(parent.schema, vocabularies, scalings=parent.scalings, catalogue=catalogue)


def nothing_new(known: Known, *, found: str, key: str) -> ConfigError:
    """What to raise for a log without training rows that are newer than what is known."""
    allowed = f"training rows after {utc(known.last)}, the newest that the parent knows"
    return ConfigError(file="the log", key=key, found=found, allowed=allowed)


def utc(seconds: int) -> str:
    """A time for messages."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _with_new(index: IdIndex, fresh: IdIndex) -> IdIndex:
    """The index of before with the new ids behind; hash buckets know every id already."""
    if not isinstance(index, Vocabulary) or not isinstance(fresh, Vocabulary):
        return index
    new = fresh.keys[~np.isin(fresh.keys, index.keys)]
    return Vocabulary(np.concatenate([index.keys, new.astype(fresh.keys.dtype)]) if len(new) else index.keys)


def _merged(before: Catalogue, fresh: Catalogue) -> Catalogue:
    """Every item of both; what `fresh` says of an item counts."""
    old = np.flatnonzero(~np.isin(before.ids, fresh.ids))
    columns = {name: _joined(column, before.columns[name], old) for name, column in fresh.columns.items()}
    return Catalogue(ids=np.concatenate([fresh.ids, before.ids[old]]), columns=columns)


def _joined(
    fresh: NDArray[np.generic] | Lists, before: NDArray[np.generic] | Lists, old: NDArray[np.int64]
) -> NDArray[np.generic] | Lists:
    """`fresh` and behind it the rows `old` of `before`, a column of the same kind."""
    if not isinstance(fresh, Lists) or not isinstance(before, Lists):
        return np.concatenate([fresh, before[old]])  # type: ignore[index]  # both are arrays
    starts = np.cumsum(before.lengths) - before.lengths
    kept = np.asarray(before.values)[slices(starts[old], before.lengths[old])]
    values = np.concatenate([np.asarray(fresh.values), kept]) if len(kept) else np.asarray(fresh.values)
    return Lists(values=values, lengths=np.concatenate([fresh.lengths, before.lengths[old]]))
