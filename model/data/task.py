"""A log in task form, and the folder of Parquet files that holds one.

train.parquet valid.parquet test.parquet   one row per impression (`columns.impression_columns`)
items.parquet      the catalogue; without it, it is gathered from the impressions
behaviors.parquet  what to load into a store; without it, it is gathered from the impressions
meta.json          counts for the reader, and the Bayes-optimal AUC of a synthetic log
"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.columns import behavior_columns, checked, checked_impressions, checked_items, impression_columns
from model.data.gathered import gather_behaviors, gather_items

_SPLITS = ("train", "valid", "test")
_META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Log:
    """Impressions split by time, and what is known besides.

    train, valid, test  `columns.impression_columns`, histories as of the impression's time
    items      the catalogue: item id and the other item features, one row per item, ascending
    behaviors  every behavior of every user: user, item, category, time in seconds; by user and time
    bayes_auc  split -> AUC of the true click probability; None where nobody knows it
    """

    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame
    items: pl.DataFrame
    behaviors: pl.DataFrame
    bayes_auc: dict[str, float] | None = None

    def splits(self) -> dict[str, pl.DataFrame]:
        """The three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def write_task(log: Log, folder: Path) -> None:
    """Write `log` so that `read_task` reads it back equal; replaces the files of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = {**log.splits(), "items": log.items, "behaviors": log.behaviors}
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    rows = {name: len(frame) for name, frame in frames.items()}
    meta = {"rows": rows, "bayes_auc": log.bayes_auc}
    (folder / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def read_task(folder: Path, schema: Schema) -> Log:
    """The prepared task in `folder`. Raises ConfigError naming the file and column at fault."""
    parts = {}
    for name in _SPLITS:
        path = folder / f"{name}.parquet"
        parts[name] = checked_impressions(_parquet(path), schema, file=str(path), training=name == "train")
    _check_users(parts, schema, file=str(folder))
    together = pl.concat([part.select(list(impression_columns(schema))) for part in parts.values()])
    items = _given_items(folder / "items.parquet", schema)
    items = gather_items(together, schema) if items is None else items
    behaviors = _given_behaviors(folder / "behaviors.parquet", schema)
    behaviors = gather_behaviors(together, items, schema) if behaviors is None else behaviors
    return Log(**parts, items=items, behaviors=behaviors, bayes_auc=_bayes_auc(folder / _META))


def _given_items(path: Path, schema: Schema) -> pl.DataFrame | None:
    return checked_items(_parquet(path), schema, file=str(path)) if path.exists() else None


def _given_behaviors(path: Path, schema: Schema) -> pl.DataFrame | None:
    return checked(_parquet(path), behavior_columns(schema), file=str(path)) if path.exists() else None


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except FileNotFoundError as error:
        raise ConfigError(file=str(path), key="file", found="nothing there", allowed="a Parquet file") from error
    except (OSError, PolarsError) as error:
        raise ConfigError(file=str(path), key="file", found=str(error), allowed="a Parquet file") from error


def _check_users(parts: dict[str, pl.DataFrame], schema: Schema, *, file: str) -> None:
    user = schema.keys.user
    types = {name: str(part[user].dtype) for name, part in parts.items()}
    if len(set(types.values())) > 1:
        raise ConfigError(file=file, key=f"column {user}", found=types, allowed="one type in all three files")


def _bayes_auc(path: Path) -> dict[str, float] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("bayes_auc")
        return None if found is None else {str(name): float(auc) for name, auc in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(file=str(path), key="bayes_auc", found=str(error), allowed="a table of numbers") from error
