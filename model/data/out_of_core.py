"""A log of any size into shards of encoded rows, in bounded memory.

blocks --by user--> partitions --sorted by user and time--> (of behaviors alone: how often each item was met)
                                                            1. counts: vocabularies, scalings, priors
                                                            2. encoded rows, dealt to shards
The rules are those of a log in memory (`history`, `split`, `vocab`), and so are the encoded rows, bit by bit; only
their order differs.

<out>/train valid test      shards.ShardWriter
      vocab/... prior_ctr   the encoder, as in a bundle
      items.parquet         the catalogue; behaviors.parquet what to load into a store
      log.json              written last: the schema, what the splits hold; without it the folder is no log
"""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.folder import PRIOR, encoder_files, to_npy
from model.bundle.schema import Schema
from model.data.clicked_pairs import write_clicked_pairs
from model.data.division import SPLITS
from model.data.preparation import Encode, Plan, Preparation, Report, silent
from model.data.rating_stream import RatingStream
from model.data.shards import INDEX, read_shards

__all__ = ["FORMAT", "LOG", "SPLITS", "Encode", "Plan", "Preparation", "Summary", "prepare_shards"]

LOG = "log.json"
FORMAT = 1

Summary = dict[str, dict[str, Any]]  # by split; JSON


def prepare_shards(stream: RatingStream, schema: Schema, *, plan: Plan, out: Path, report: Report = silent) -> Summary:
    """Write the log to `out`, over an earlier one, and return what its splits hold, as `assessment.summary`.

    `report` is told the step, the rows done, and of how many if that is known. Raises ConfigError as `read_log`.
    """
    scratch = out / ".partitions"
    _clear(out, scratch)
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
    table |= {"parent": plan.known.to_table()} if plan.known else {}
    (out / LOG).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return summary


def _clear(out: Path, scratch: Path) -> None:
    """Delete an earlier log, or what a broken preparation left. Raises ConfigError, and deletes nothing, if a folder
    that would go holds files that no preparation writes.
    """
    for folder in (out / split for split in SPLITS):
        for path in folder.rglob("*"):
            ours = path.is_dir() or path.suffix == ".npy" or path.name == INDEX or path.parent.name.startswith(".")
            if not ours:
                allowed = "shards, or nothing: what is in that folder is deleted first"
                raise ConfigError(file=str(folder), key="(folder)", found=path.name, allowed=allowed)
    (out / LOG).unlink(missing_ok=True)
    for folder in (scratch, *(out / split for split in SPLITS)):
        shutil.rmtree(folder, ignore_errors=True)
