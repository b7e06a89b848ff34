"""A log that `out_of_core` prepared, for training and evaluation: its splits as shards, its encoder, what it holds."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder
from model.bundle.errors import BundleError, ConfigError
from model.bundle.folder import PRIOR, encoder_files, read_encoder
from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.clicked_pairs import Pairs, open_clicked_pairs
from model.data.downsample import downsampled_shards
from model.data.known import Known
from model.data.lanes import Lanes
from model.data.out_of_core import FORMAT, LOG
from model.data.sharded_split import ShardedSplit
from model.data.shards import Shards, read_shards


@dataclass(frozen=True, kw_only=True)
class ShardedLog:
    """A log on disk, encoded. `memory_mb` is what a lane's rows in memory may take; `splits` is as
    `assessment.summary`.
    """

    folder: Path
    encoder: Encoder
    prior_ctr: NDArray[np.float32]
    splits: dict[str, dict[str, Any]]  # Any: JSON
    memory_mb: float
    parent: dict[str, Any] | None = None  # Any: JSON; `Known.to_table` of what its encoder extends
    bayes_auc: None = None  # nobody knows it here

    def shards(self, split: str) -> Shards:
        """The shards of a split."""
        return read_shards(self.folder / split)

    def split(self, split: str, *, lanes: Lanes | None = None, rate: float = 1.0, seed: int = 0) -> ShardedSplit:
        """The rows of a split, of which a process that trains with others reads its lanes; of those without a click
        about the share `rate`, drawn from the seed.
        """
        shards = self.shards(split)
        rows = int(self.memory_mb * (1 << 20) / shards.bytes_per_row())
        return ShardedSplit(downsampled_shards(shards, rate=rate, seed=seed), window_rows=rows, lanes=lanes)

    def activity(self, split: str) -> Ids:
        """[N] training rows of each row's user."""
        return self.shards(split).column("activity").astype(np.int64)

    def clicked_pairs(self) -> Pairs:
        """Who clicked what in training. Raises ConfigError for a log that was prepared before this was written."""
        return open_clicked_pairs(self.folder / "train")

    def check_parent(self, parent: Known | None) -> None:
        """Raise ConfigError unless the rows were prepared to go on from `parent`, or from nothing if that is None."""
        prepared, asked = (self.parent or {}).get("digest"), parent.digest if parent else None
        if prepared == asked:
            return
        found = _named(self.parent) if self.parent else "none, so the parent's ids are not known"
        if parent is None:
            allowed = "no parent: these shards are trained with --from it"
        else:
            allowed = f"{_named(parent.to_table())}, by `ctr-model prepare --shards --from` it"
        raise ConfigError(file=str(self.folder / LOG), key="parent", found=found, allowed=allowed)

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ConfigError unless `encoder` would have encoded the rows as they are."""
        mine, other = encoder_files(self.encoder), encoder_files(encoder)
        if differ := sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name)):
            allowed = "a run that was trained on these shards"
            raise ConfigError(file=str(self.folder), key=differ[0], found="another one than the run's", allowed=allowed)


def read_sharded_log(folder: Path, schema: Schema, *, memory_mb: float) -> ShardedLog:
    """The log in `folder`. Raises ConfigError if it is incomplete or was prepared with another schema."""
    path = folder / LOG
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        stated, splits, version = table["schema"], table["splits"], table["format"]
        parent = table.get("parent")
    except (OSError, ValueError, KeyError, TypeError) as error:
        allowed = "a folder that `ctr-model prepare --shards` wrote to its end"
        raise ConfigError(file=str(path), key="(file)", found=str(error), allowed=allowed) from error
    if version != FORMAT:
        raise ConfigError(file=str(path), key="format", found=version, allowed=str(FORMAT))
    asked = json.loads(json.dumps(schema.to_table()))
    for key in asked:
        if asked[key] != stated.get(key):
            allowed = f"{stated.get(key)}, as the log was prepared"
            raise ConfigError(file=str(path), key=f"schema.{key}", found=asked[key], allowed=allowed)
    try:
        files = {f"vocab/{file.name}": file.read_bytes() for file in sorted((folder / "vocab").iterdir())}
        encoder = read_encoder(schema, files)
        prior = np.load(io.BytesIO(files[PRIOR]), allow_pickle=False)
    except (OSError, KeyError, BundleError) as error:
        raise ConfigError(
            file=str(folder / "vocab"), key="(file)", found=str(error), allowed="the log's own"
        ) from error
    return ShardedLog(
        folder=folder, encoder=encoder, prior_ctr=prior, splits=splits, memory_mb=memory_mb, parent=parent
    )


def _named(parent: Mapping[str, Any]) -> str:  # Any: JSON
    return f"{parent['name']} {parent['version'] or '(a run)'}, {parent['digest'][:12]}"
