"""Behaviors alone, piece by piece: each that has a history is an impression, beside one of an item that was drawn.

The draw needs to know how often the whole log met each item, which a survey counts first. The survey also writes down
the times of all impressions, from which the borders of the splits follow.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.data_config import DataConfig
from model.data.history import point_in_time
from model.data.next_item import NO_HISTORY, NONE_FOUND, Draw, check_history, met_counts, places_from_last, with_drawn
from model.data.partitions import CARRIED, Cut, Partitions, Piece
from model.data.piece_rows import PieceRows, Times, Told
from model.data.pile import Tally
from model.data.reading import Reading

_AT = "__at"  # number of the row that an impression is made of


class NextItems:
    """Every row is a behavior. `twice` is what the reader says of one that is there twice."""

    impressions = 2

    def __init__(self, config: DataConfig, schema: Schema, *, twice: str, reading: Reading) -> None:
        check_history(schema)
        self._config, self._schema, self._twice, self._reading = config, schema, twice, reading
        self._draw: Draw | None = None

    @property
    def cut(self) -> Cut:
        """A behavior counts once."""
        keys = self._schema.keys
        return Cut(positive_rating=1.0, once=(keys.user, keys.item, keys.timestamp))

    def survey(self, partitions: Partitions, pieces: Iterator[Piece], scratch: Path) -> Times | None:
        """Count the items, and write down the times. Raises ConfigError if the log has one item only."""
        keys, folder, met, rows = self._schema.keys, scratch / "times", Tally(), 0
        folder.mkdir()
        for number, piece in enumerate(pieces):
            point = point_in_time(piece.rows, self._schema, positive_rating=1.0)
            own = ~point.rows[CARRIED].to_numpy()
            met.add(met_counts(point.rows[keys.item].filter(pl.Series(own))))
            times = point.rows[keys.timestamp].to_numpy()[own & (point.lengths > 0)]
            np.save(folder / f"{number:08}.npy", times)
            rows += int(own.sum())
        self._reading.leave_out(self._twice, len(partitions) - rows)
        self._draw = Draw(met.total(), negatives=self._config.negatives, seed=self._config.seed)
        return None if self._config.split == "last" else lambda: _read(folder)

    def rows(self, piece: Piece, told: Told) -> PieceRows:
        """Clicks, each followed by what was drawn against it.

        Raises ConfigError if the log is split by each user's last behaviors, and a user does not fit in a piece.
        """
        last = self._config.split == "last"
        if last and piece.met is not None:
            raise _too_large(told)
        if self._draw is None:
            raise RuntimeError("rows before the survey")
        point = point_in_time(piece.rows, self._schema, positive_rating=1.0)
        own = ~point.rows[CARRIED].to_numpy()
        clicks = np.flatnonzero(own & (point.lengths > 0))
        shown = told.of(point.rows[clicks]).with_columns(pl.Series(_AT, clicks))
        met = point.rows if piece.met is None else piece.met
        both = with_drawn(shown, told.items, met, self._schema, self._draw)
        left_out = {NO_HISTORY: int(own.sum()) - len(clicks), NONE_FOUND: 2 * len(clicks) - len(both)}
        at = both[_AT].to_numpy()
        return PieceRows(
            rows=told.checked(both),
            behaviors=told.behaviors(point.rows),
            starts=point.starts[at],
            lengths=point.lengths[at],
            place=places_from_last(both, self._schema).to_numpy() if last else None,
            left_out=left_out,
        )


def _read(folder: Path) -> Iterator[Ids]:
    for file in sorted(folder.iterdir()):
        yield np.repeat(np.load(file, allow_pickle=False), 2)  # a click and what is drawn against it


def _too_large(told: Told) -> ConfigError:
    allowed = "more: a user does not fit, and the last behavior is known of whole users only"
    return ConfigError(file=told.file, key="data.memory_mb", found="a user cut by time", allowed=allowed)
