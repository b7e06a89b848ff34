"""The passes over a log that is in partitions: what it holds, what training rows teach, the encoded rows.

`rating_stream` says where the rows come from, `piece_rows` what impressions a piece of them holds.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.schema import SIDES, Schema
from model.bundle.vocabulary import Ids
from model.data.assemble import check_users, every_item
from model.data.batches import EncodedSplit
from model.data.columns import behavior_columns, checked_items, only
from model.data.counted import SplitCounts, TrainCounts, met_in
from model.data.division import LEFT_OUT, SPLITS, Division, divide
from model.data.history import ORDER, numbered_from
from model.data.interactions import Interactions
from model.data.known import LEARNED, Known, extended, nothing_new
from model.data.next_item import nothing_for
from model.data.partitions import CARRIED, Partitions, Piece
from model.data.piece_encoding import PieceEncoder, user_numbers
from model.data.piece_rows import PieceRows, Times, Told
from model.data.pile import Pile
from model.data.rating_stream import RatingStream, newest_items
from model.data.shards import ShardWriter
from model.data.vocab import prior_of

_THE_LOG = "the log"  # what messages name: its files are not known here
_SHARD_ROWS = 1 << 17
_MOST_SHARDS = 1024  # files are opened once a piece each

Encode = Callable[[Encoder], EncodedSplit]
Report = Callable[[str, int, int | None], None]


def silent(step: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a log is prepared. `memory_mb` is what one piece may take, beside what vocabularies and catalogue take.

    With `known` old ids keep their index, and of the training rows only those that are newer than it are there. With
    `hours` the newest ones of the log test, and a share of the rows before them validates (`division`).
    `encode` does the last step, given the shards' folder; None: piece by piece, here.
    """

    valid_fraction: float
    test_fraction: float
    memory_mb: float
    seed: int = 0
    known: Known | None = None
    hours: float | None = None
    encode: "Callable[[Preparation, Encoder, Path], None] | None" = None


class Preparation:
    """A log in partitions; `count` and `encode` then go through it, in this order."""

    def __init__(self, stream: RatingStream, schema: Schema, plan: Plan, *, scratch: Path, report: Report) -> None:
        """Read the log once, and survey it where its kind needs that."""
        self._schema, self._plan, self._report = schema, plan, report
        self._kind, self._reading = stream.kind, stream.reading
        row = _bytes_per_row(schema) * self._kind.impressions
        self._most = max(int(plan.memory_mb * (1 << 20) / row), 1)
        self.behaviors = scratch / "behaviors"
        self._partitions = Partitions(scratch, schema, self._kind.cut)
        rated = self._read(stream)
        given = rated.drop(schema.keys.timestamp, ORDER) if stream.items is None else stream.items()
        every = every_item(Interactions(ratings=rated, items=given), schema)
        self.items = checked_items(every, schema, file=_THE_LOG)
        if stream.users is not None:
            check_users(stream.users, schema.keys.user, file=_THE_LOG)
        self._told = Told(schema=schema, items=self.items, users=stream.users, file=_THE_LOG)
        self._times = self._kind.survey(self._partitions, self._pieces("survey"), scratch)
        self._division = self._divided(self._times)
        self.counts = {name: SplitCounts() for name in SPLITS}

    def _read(self, stream: RatingStream) -> pl.DataFrame:
        """Cut the log into partitions; returns the items that it rates, as `newest_items`."""
        done, newest = 0, newest_items(self._schema)
        rated = Pile(newest)
        names = [self._schema.keys.timestamp, ORDER, *(f.name for f in self._schema.item)]
        for rows in stream.pieces:
            piece = numbered_from(rows, done)
            self._partitions.add(piece)
            rated.add(newest(piece.select(name for name in names if name in piece.columns)))
            done += len(piece)
            self._report("partition", done, None)
        if not done:
            raise ConfigError(file=_THE_LOG, key="rows", found=0, allowed="one or more")
        return rated.total()

    def count(self) -> tuple[Encoder, NDArray[np.float32]]:
        """Sort every piece and learn what training rows teach: the encoder, and the prior click rate by item."""
        train = TrainCounts(self._schema, self.items, rng=np.random.default_rng(self._plan.seed))
        self.behaviors.mkdir()
        names = list(behavior_columns(self._schema))
        for number, (found, split) in enumerate(self._impressions("count")):
            new = found.behaviors.filter(~pl.col(CARRIED)) if found.stored is None else found.stored
            new.select(names).write_parquet(self.behaviors / f"{number:08}.parquet")
            for why, rows in found.left_out.items():
                self._reading.leave_out(why, rows)
            self._reading.leave_out(LEARNED, int((split == LEFT_OUT).sum()))
            for at, counts in enumerate(self.counts.values()):
                mine = np.flatnonzero(split == at)
                counts.add(found.rows[mine], found.lengths[mine], self._schema)
            learned = np.flatnonzero(split == 0)
            met = met_in(found.starts[learned], found.lengths[learned], len(found.behaviors))
            train.add(found.rows[learned], found.behaviors, met)
        self._check_counts()
        known, encoder = self._plan.known, train.encoder()
        encoder = extended(known.encoder, encoder) if known else encoder
        counted = self.counts["train"].items.total()
        return encoder, prior_of(counted, encoder, before=known.prior_ctr if known else None)

    def encode(self, encoder: Encoder, out: Path) -> None:
        """Sort every piece once more, encode its rows and deal them to the shards."""
        writers = []
        for i, (name, counts) in enumerate(self.counts.items()):
            shards = min(math.ceil(counts.rows / _SHARD_ROWS), _MOST_SHARDS)
            writers.append(ShardWriter(out / name, shards=shards, rng=np.random.default_rng([self._plan.seed, i])))
        for at, rows, activity in self.encoded(encoder):
            writers[at].append(rows, activity)
        for writer in writers:
            writer.close()

    def encoded(self, encoder: Encoder) -> Iterator[tuple[int, EncodedSplit, Ids]]:
        """Every piece's rows: of which of SPLITS they are, encoded, and the activity of their users."""
        trained = self.counts["train"].users.total()
        for found, split in self._impressions("encode"):
            piece = PieceEncoder(found, encoder)
            for at in range(len(SPLITS)):
                mine = np.flatnonzero(split == at)
                if len(mine):
                    yield at, piece.encode(mine), self._activity(found.rows[mine], trained)

    def newest(self, hours: float) -> Iterator[tuple[pl.DataFrame, Encode]]:
        """The test rows of the newest `hours` of the log, piece by piece, and what encodes them with any encoder."""
        if self._times is None:
            raise ConfigError(file="--shards", key="data.split", found="last", allowed="time, to judge by newest hours")
        border = max(int(times.max()) for times in self._times() if len(times)) - hours * 3600
        for found, split in self._impressions("judge"):
            times = found.rows[self._schema.keys.timestamp].to_numpy()
            rows = np.flatnonzero((split == SPLITS.index("test")) & (times > border))
            if len(rows):
                yield found.rows[rows], partial(_encoded, found, rows)

    def divided(self, parts: int) -> "list[Preparation]":
        """The same work cut by user, for as many processes that see the same files; they report nothing."""
        out = []
        for partitions in self._partitions.divided(parts):
            work = copy.copy(self)
            work._partitions, work._report = partitions, silent
            out.append(work)
        return out

    def _impressions(self, step: str) -> Iterator[tuple[PieceRows, Ids]]:
        """The impressions of every piece, and which split each of them is of."""
        for piece in self._pieces(step):
            found = self._kind.rows(piece, self._told)
            yield found, self._split(found)

    def _pieces(self, step: str) -> Iterator[Piece]:
        done = 0
        for piece in self._partitions.pieces(self._most):
            yield piece
            done += int((~piece.rows[CARRIED]).sum())
            self._report(step, done, len(self._partitions))

    def _split(self, found: PieceRows) -> Ids:
        if found.place is not None:
            return np.maximum(len(SPLITS) - found.place.astype(np.int64), 0)
        if self._division is None:
            raise RuntimeError("neither borders nor places")
        keys = self._schema.keys
        return self._division(found.rows[keys.timestamp].to_numpy(), user_numbers(found.rows[keys.user]))

    def _divided(self, times: Times | None) -> Division | None:
        """How rows come to splits; None if that is by their place among the user's, which knows no newer rows."""
        plan = self._plan
        if times is None:
            if plan.known or plan.hours:
                raise ConfigError(file="--shards", key="data.split", found="last", allowed="time, to go on from a net")
            return None
        shares = {"valid_fraction": plan.valid_fraction, "test_fraction": plan.test_fraction}
        return divide(times, **shares, hours=plan.hours, after=plan.known.last if plan.known else None)

    def _check_counts(self) -> None:
        """Raise ConfigError for a split without rows, such as one of which everything is known."""
        known, hours, key = self._plan.known, self._plan.hours, f"column {self._schema.keys.timestamp}"
        for name in (name for name, counts in self.counts.items() if counts.first is None):
            found = f"no rows for {name}"
            if known is not None:
                raise nothing_new(known, found=found, key=key)
            if hours is not None:
                allowed = f"rows before the newest {hours:g} hours"
                raise ConfigError(file="the log", key=key, found=found, allowed=allowed)
            raise nothing_for(name)

    def _activity(self, rows: pl.DataFrame, trained: pl.DataFrame) -> Ids:
        """[N] training rows of each row's user."""
        user = rows.select(pl.col(self._schema.keys.user).alias("id"))
        known = only(trained, "id", user["id"])
        return user.join(known, on="id", how="left", maintain_order="left")["rows"].fill_null(0).to_numpy()


def _encoded(found: PieceRows, rows: Ids, encoder: Encoder) -> EncodedSplit:
    return PieceEncoder(found, encoder).encode(rows)


def _bytes_per_row(schema: Schema) -> int:
    """What an impression takes while it is prepared, about, if its history is full."""
    fields = sum(schema.item_feature(s.shares).places for s in schema.behavior) + len(schema.gap_columns())
    places = sum(f.places for side in SIDES for f in schema.features(side))
    return 300 + 40 * places + schema.max_history * 16 * fields
