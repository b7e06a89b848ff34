"""A rating log of any size into shards of encoded rows, in bounded memory.

pieces --by user--> partitions --sorted by user and time, twice--> 1. counts: vocabularies, scalings, priors
                                                                   2. encoded rows, dealt to shards
The rules are those of a log in memory (`history`, `split`, `vocab`), and so are the encoded rows, bit by bit; only
their order differs.

<out>/train valid test      shards.ShardWriter
      vocab/... prior_ctr   the encoder, as in a bundle
      items.parquet         the catalogue; behaviors.parquet what to load into a store
      log.json              written last: the schema, what the splits hold; without it the folder is no log
"""

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.folder import PRIOR, encoder_files, to_npy
from model.bundle.schema import SIDES, Schema
from model.bundle.vocabulary import Ids
from model.data.assemble import every_item, join_users
from model.data.batches import EncodedSplit, behaviors_of, encode_rows, encode_told
from model.data.clicked_pairs import write_clicked_pairs
from model.data.columns import behavior_columns, checked, checked_items, history_columns, impression_columns
from model.data.counted import SplitCounts, TrainCounts, met_in
from model.data.history import ORDER, PointInTime, point_in_time
from model.data.interactions import Interactions
from model.data.partitions import CARRIED, Partitions
from model.data.ragged import slices
from model.data.rating_stream import RatingStream, newest_items
from model.data.shards import ShardWriter, read_shards
from model.data.split import time_borders
from model.data.vocab import prior_of

SPLITS = ("train", "valid", "test")
LOG = "log.json"
FORMAT = 1
_SHARD_ROWS = 1 << 17
_MOST_SHARDS = 1024  # files are opened once a piece each
_CARRIED_SPLIT = -1  # of rows that are there for the histories of others

Report = Callable[[str, int, int | None], None]
Summary = dict[str, dict[str, Any]]  # by split; JSON


def _silent(step: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a log is prepared. `memory_mb` is what one piece may take, beside what vocabularies and catalogue take.

    `encode` does the last step, given the shards' folder; None: piece by piece, here.
    """

    valid_fraction: float
    test_fraction: float
    memory_mb: float
    seed: int = 0
    encode: "Callable[[Preparation, Encoder, Path], None] | None" = None


def prepare_shards(stream: RatingStream, schema: Schema, *, plan: Plan, out: Path, report: Report = _silent) -> Summary:
    """Write the log to `out`, over an earlier one, and return what its splits hold, as `assessment.summary`.

    `report` is told the step, the rows done, and of how many if that is known. Raises ConfigError as `read_log`.
    """
    (out / LOG).unlink(missing_ok=True)
    scratch = out / ".partitions"
    for folder in (scratch, *(out / split for split in SPLITS)):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        work = Preparation(stream, schema, plan, scratch=scratch, report=report)
        encoder, prior = work.count()
        (plan.encode or Preparation.encode)(work, encoder, out)
        write_clicked_pairs(read_shards(out / SPLITS[0]), encoder)
        pl.scan_parquet(work.behaviors / "*.parquet").sink_parquet(out / "behaviors.parquet")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for name, raw in {**encoder_files(encoder), PRIOR: to_npy(prior)}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(raw)
    work.items.write_parquet(out / "items.parquet")
    summary = {name: split.summary() for name, split in work.counts.items()}
    table = {"format": FORMAT, "schema": schema.to_table(), "splits": summary}
    (out / LOG).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return summary


class Preparation:
    """A log in partitions; `count` and `encode` then go through it, in this order."""

    def __init__(self, stream: RatingStream, schema: Schema, plan: Plan, *, scratch: Path, report: Report) -> None:
        """Read the log once."""
        self._schema, self._plan, self._report, self._file = schema, plan, report, str(scratch.parent)
        self._most = max(int(plan.memory_mb * (1 << 20) / _bytes_per_row(schema)), 1)
        self._users = stream.users
        self._positive, self.behaviors = stream.positive_rating, scratch / "behaviors"
        self._partitions = Partitions(scratch, schema, positive_rating=self._positive)
        rated = self._read(stream)
        given = rated.drop(schema.keys.timestamp) if stream.items is None else stream.items
        every = every_item(Interactions(ratings=rated, items=given), schema)
        self.items = checked_items(every, schema, file=self._file)
        fractions = {"valid_fraction": plan.valid_fraction, "test_fraction": plan.test_fraction}
        self._borders = time_borders(self._partitions.times, **fractions)
        self.counts = {name: SplitCounts() for name in SPLITS}

    def _read(self, stream: RatingStream) -> pl.DataFrame:
        """Cut the log into partitions; returns the items that it rates, as `newest_items`."""
        done, rated = 0, None
        for piece in stream.pieces:
            self._partitions.add(piece.with_row_index(ORDER, offset=done))
            rated = newest_items(rated, piece, self._schema)
            done += len(piece)
            self._report("partition", done, None)
        if rated is None:
            raise ConfigError(file=self._file, key="rows", found=0, allowed="one or more")
        return rated

    def count(self) -> tuple[Encoder, NDArray[np.float32]]:
        """Sort every piece and learn what training rows teach: the encoder, and the prior click rate by item."""
        train = TrainCounts(self._schema, self.items, rng=np.random.default_rng(self._plan.seed))
        self.behaviors.mkdir()
        names = list(behavior_columns(self._schema))
        for number, (found, split) in enumerate(self._pieces("count")):
            clicks = found.rows[found.clicks]
            new = clicks.filter(~pl.col(CARRIED)).select(names)
            new.write_parquet(self.behaviors / f"{number:08}.parquet")
            for at, counts in enumerate(self.counts.values()):
                mine = np.flatnonzero(split == at)
                counts.add(found.rows[mine], found.lengths[mine], self._schema)
            learned = np.flatnonzero(split == 0)
            met = met_in(found.starts[learned], found.lengths[learned], len(found.clicks))
            train.add(found.rows[learned], clicks, met)
        encoder = train.encoder()
        return encoder, prior_of(self.counts["train"].items.total(), encoder)

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
        for found, split in self._pieces("encode"):
            histories = Histories(found, encoder)
            for at in range(len(SPLITS)):
                mine = np.flatnonzero(split == at)
                if len(mine):
                    yield at, histories.encode(mine), self._activity(found.rows[mine], trained)

    def divided(self, parts: int) -> "list[Preparation]":
        """The same work cut by user, for as many processes that see the same files; they report nothing."""
        out = []
        for partitions in self._partitions.divided(parts):
            work = copy.copy(self)
            work._partitions, work._report = partitions, _silent
            out.append(work)
        return out

    def _pieces(self, step: str) -> Iterator[tuple[PointInTime, Ids]]:
        """Every piece, sorted and checked, and which split each of its rows is of."""
        done, total = 0, len(self._partitions)
        for piece in self._partitions.pieces(self._most):
            found = self._found(piece)
            times = found.rows[self._schema.keys.timestamp].to_numpy()
            split = np.searchsorted(self._borders, times, side="right")
            carried = found.rows[CARRIED].to_numpy()
            yield found, np.where(carried, _CARRIED_SPLIT, split)
            done += int((~carried).sum())
            self._report(step, done, total)

    def _found(self, piece: pl.DataFrame) -> PointInTime:
        keys = self._schema.keys
        told = [name for name in self.items.columns if name not in piece.columns]
        rows = piece.join(self.items.select(keys.item, *told), on=keys.item, how="left", maintain_order="left")
        if self._users is not None:
            rows = join_users(rows, self._users, keys.user, file=self._file)
        found = point_in_time(rows, self._schema, positive_rating=self._positive)
        lists = {*history_columns(self._schema).values(), *([self._schema.times.column] if self._schema.times else [])}
        columns = {name: kind for name, kind in impression_columns(self._schema).items() if name not in lists}
        kept = checked(found.rows, columns, file=self._file).with_columns(found.rows[CARRIED])
        return replace(found, rows=kept)

    def _activity(self, rows: pl.DataFrame, trained: pl.DataFrame) -> Ids:
        """[N] training rows of each row's user."""
        user = rows.select(pl.col(self._schema.keys.user).alias("id"))
        return user.join(trained, on="id", how="left", maintain_order="left")["rows"].fill_null(0).to_numpy()


class Histories:
    """A piece of which rows can be encoded: every click once, however many histories it is in."""

    def __init__(self, found: PointInTime, encoder: Encoder) -> None:
        self._found, self._encoder, schema = found, encoder, encoder.schema
        told = [*history_columns(schema), *([schema.keys.timestamp] if schema.times else [])]
        self._told = {key: found.rows[key].to_numpy()[found.clicks] for key in told}
        self._encoded: Ids | None = None
        if schema.times is None:  # else it depends on the row what is encoded
            self._encoded = encoder.encode_behaviors(behaviors_of(self._told, schema)).astype(np.int32)

    def encode(self, numbers: Ids) -> EncodedSplit:
        """The rows of these numbers, with the histories they had then."""
        found, keys = self._found, self._encoder.schema.keys
        rows, lengths = found.rows[numbers], found.lengths[numbers]
        at = slices(found.starts[numbers], lengths)
        if self._encoded is not None:
            history = self._encoded[at]
        else:
            told, now = {key: values[at] for key, values in self._told.items()}, rows[keys.timestamp].to_numpy()
            history, lengths = encode_told(told, lengths, self._encoder, now=now)
        out = encode_rows(rows, self._encoder, history=history, lengths=lengths)
        users = rows[keys.user]
        # A text id has no place among all others while those are in other pieces: its hash tells users apart.
        return replace(out, user=users.hash().reinterpret(signed=True).to_numpy()) if users.dtype == pl.String else out


def _bytes_per_row(schema: Schema) -> int:
    """What a row takes while it is prepared, about, if its history is full."""
    fields = sum(schema.item_feature(s.shares).places for s in schema.behavior) + len(schema.gap_columns())
    places = sum(f.places for side in SIDES for f in schema.features(side))
    return 300 + 40 * places + schema.max_history * 16 * fields
