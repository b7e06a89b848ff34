"""Which log to read, and the one place that chooses its reader."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.data.atomic import read_atomic
from model.data.columns import (
    BAYES_PCTR,
    behavior_columns,
    checked,
    checked_impressions,
    checked_items,
    negative_columns,
)
from model.data.feature_log import read_feature_log
from model.data.gathered import gather_behaviors, gather_items
from model.data.history import impressions, positives
from model.data.interactions import Interactions
from model.data.movielens import read_movielens
from model.data.split import split_by_time
from model.data.synthetic import SyntheticConfig, synthesize
from model.data.task import Log, read_task, write_task
from model.metrics import auc

__all__ = ["DataConfig", "Log", "read_log", "write_task"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the log is and how it becomes impressions.

    `positive_rating` is the lowest rating that counts as a click. The fractions apply to all logs but a `task`; a
    `task` is split already. `path` is the folder with the files, relative to the config file's folder.
    """

    format: Literal["task", "movielens", "atomic", "synthetic", "feature_log"]
    path: Path | None = None
    positive_rating: float = 4.0
    valid_fraction: float = setting(0.1, low=0.001, high=0.4)
    test_fraction: float = setting(0.1, low=0.001, high=0.4)
    synthetic: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)


def read_log(config: DataConfig, schema: Schema, *, base: Path) -> Log:
    """The log in task form. `base` is the folder that a relative path starts from.

    Raises ConfigError naming the file, the column or line, what was found and what is allowed.
    """
    named = negative_columns(schema)
    if named and config.format != "task":
        allowed = 'none: only a log in format "task" can hold negatives'
        raise ConfigError(file=str(base), key="schema.behavior.negatives", found=list(named.values()), allowed=allowed)
    if config.format == "synthetic":
        clicks = dataclasses.replace(config, positive_rating=1.0)
        return _to_log(synthesize(config.synthetic, schema), clicks, schema, file="the synthetic log")
    if config.path is None:
        allowed = f"the folder of a log in format {config.format!r}"
        raise ConfigError(file=str(base), key="data.path", found=None, allowed=allowed)
    folder = base / config.path
    if config.format == "task":
        return read_task(folder, schema)
    if config.format == "feature_log":
        return _served(folder, config, schema)
    return _to_log(_RATINGS[config.format](folder, schema), config, schema, file=str(folder))


_RATINGS: Mapping[str, Callable[[Path, Schema], Interactions]] = {"movielens": read_movielens, "atomic": read_atomic}


def _served(folder: Path, config: DataConfig, schema: Schema) -> Log:
    rows = checked_impressions(read_feature_log(folder, schema), schema, file=str(folder))
    train, valid, test = _split(rows, config, schema)
    items = gather_items(rows, schema)
    return Log(train=train, valid=valid, test=test, items=items, behaviors=gather_behaviors(rows, items, schema))


def _split(rows: pl.DataFrame, config: DataConfig, schema: Schema) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    fractions = {"valid_fraction": config.valid_fraction, "test_fraction": config.test_fraction}
    return split_by_time(rows, schema.keys.timestamp, **fractions)


def _to_log(source: Interactions, config: DataConfig, schema: Schema, *, file: str) -> Log:
    keys = schema.keys
    items = checked_items(_every_item(source, schema), schema, file=file)
    ratings = source.ratings.join(items, on=keys.item, how="left", maintain_order="left")
    behaviors = positives(ratings, schema, positive_rating=config.positive_rating)
    if source.users is not None:
        ratings = _join_users(ratings, source.users, keys.user, file=file)
    rows = impressions(ratings, schema, positive_rating=config.positive_rating)
    train, valid, test = _split(checked_impressions(rows, schema, file=file), config, schema)
    log = Log(
        train=train,
        valid=valid,
        test=test,
        items=items,
        behaviors=checked(behaviors, behavior_columns(schema), file=file),
    )
    return dataclasses.replace(log, bayes_auc=_bayes_auc(log, keys.label))


def _every_item(source: Interactions, schema: Schema) -> pl.DataFrame:
    """The catalogue of the file, and rated items that it lacks; their category is 0, "none", and their lists empty."""
    item, category = schema.keys.item, schema.keys.category
    rated = source.ratings.select(item).unique()
    items = pl.concat([source.items, rated.join(source.items, on=item, how="anti")], how="diagonal")
    lists = [pl.col(f.name).fill_null([]) for f in schema.item if f.kind == "multi" and f.name in items.columns]
    return items.with_columns(*lists, *([] if category is None else [pl.col(category).fill_null(0)]))


def _join_users(ratings: pl.DataFrame, users: pl.DataFrame, user: str, *, file: str) -> pl.DataFrame:
    doubled = users.filter(pl.col(user).is_duplicated())
    if len(doubled):
        found = f"{doubled[user][0]!r} more than once"
        raise ConfigError(file=file, key=f"users, column {user}", found=found, allowed="each user once")
    return ratings.join(users, on=user, how="left", maintain_order="left")


def _bayes_auc(log: Log, label: str) -> dict[str, float] | None:
    if BAYES_PCTR not in log.train.columns:
        return None
    return {n: auc(part[label].to_numpy(), part[BAYES_PCTR].to_numpy()) for n, part in log.splits().items()}
