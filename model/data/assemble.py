"""What a reader found as a `Log`: histories, labels, the catalogue, the behaviors for a store, and the three splits."""

import dataclasses
from dataclasses import dataclass

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.columns import BAYES_PCTR, behavior_columns, checked, checked_impressions, checked_items
from model.data.data_config import DataConfig
from model.data.gathered import gather_behaviors, gather_items
from model.data.history import impressions, positives
from model.data.interactions import Interactions
from model.data.next_item import NONE_FOUND, Draw, last_of_users, met_counts, next_items, with_drawn
from model.data.reading import Reading
from model.data.split import split_by_time
from model.data.task import Log
from model.metrics import auc


def from_interactions(source: Interactions, config: DataConfig, schema: Schema, *, file: str, reading: Reading) -> Log:
    """Ratings or behaviors as a log: a rating is an impression, and so is a behavior with what it is drawn against.

    Raises ConfigError naming `file` and the column at fault.
    """
    keys = schema.keys
    items = checked_items(every_item(source, schema), schema, file=file)
    told = [name for name in items.columns if name not in source.ratings.columns]
    ratings = source.ratings.join(items.select(keys.item, *told), on=keys.item, how="left", maintain_order="left")
    lowest = 1.0 if source.next_item else config.positive_rating
    behaviors = positives(ratings, schema, positive_rating=lowest)
    if source.users is not None:
        check_users(source.users, keys.user, file=file)
        ratings = ratings.join(source.users, on=keys.user, how="left", maintain_order="left")
    rows = impressions(ratings, schema, positive_rating=lowest)
    if source.next_item:
        draw = Draw(met_counts(ratings[keys.item]), negatives=config.negatives, seed=config.seed)
        clicks = next_items(rows, schema, reading)
        rows = with_drawn(clicks, items, ratings, schema, draw)
        reading.leave_out(NONE_FOUND, 2 * len(clicks) - len(rows))
    train, valid, test = _split(checked_impressions(rows, schema, file=file), config, schema, last=source.next_item)
    log = Log(
        train=train,
        valid=valid,
        test=test,
        items=items,
        behaviors=checked(behaviors, behavior_columns(schema), file=file),
    )
    return dataclasses.replace(log, bayes_auc=_bayes_auc(log, keys.label))


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """Rows that have their label and history already; items and behaviors that are not told are gathered from them."""

    rows: pl.DataFrame
    items: pl.DataFrame | None = None
    behaviors: pl.DataFrame | None = None


def from_impressions(source: Impressions, config: DataConfig, schema: Schema, *, file: str) -> Log:
    """Impressions as a log, split by time. Raises ConfigError naming `file` and the column at fault."""
    rows = checked_impressions(source.rows, schema, file=file)
    train, valid, test = _split(rows, config, schema)
    given = source.items
    items = gather_items(rows, schema) if given is None else checked_items(given, schema, file=file)
    behaviors = gather_behaviors(rows, items, schema) if source.behaviors is None else source.behaviors
    behaviors = checked(behaviors, behavior_columns(schema), file=file)
    return Log(train=train, valid=valid, test=test, items=items, behaviors=behaviors)


def _split(
    rows: pl.DataFrame, config: DataConfig, schema: Schema, *, last: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    if config.split == "last":
        if not last:
            allowed = "'time': only a log of behaviors alone has a last item of each user"
            raise ConfigError(file="the log", key="data.split", found="last", allowed=allowed)
        parts = last_of_users(rows, schema)
        return parts.train, parts.valid, parts.test
    fractions = {"valid_fraction": config.valid_fraction, "test_fraction": config.test_fraction}
    return split_by_time(rows, schema.keys.timestamp, **fractions)


def every_item(source: Interactions, schema: Schema) -> pl.DataFrame:
    """The catalogue of the file, and rated items that it lacks; their category is 0, "none", and their lists empty."""
    item, category = schema.keys.item, schema.keys.category
    rated = source.ratings.select(item).unique()
    items = pl.concat([source.items, rated.join(source.items, on=item, how="anti")], how="diagonal")
    lists = [pl.col(f.name).fill_null([]) for f in schema.item if f.kind == "multi" and f.name in items.columns]
    # A category that the log does not tell is left to the check of the columns, which names what is missing.
    told = [pl.col(category).fill_null(0)] if category in items.columns else []
    return items.with_columns(*lists, *told)


def check_users(users: pl.DataFrame, user: str, *, file: str) -> None:
    """Raise ConfigError for a user told of twice."""
    doubled = users.filter(pl.col(user).is_duplicated())
    if len(doubled):
        found = f"{doubled[user][0]!r} more than once"
        raise ConfigError(file=file, key=f"users, column {user}", found=found, allowed="each user once")


def _bayes_auc(log: Log, label: str) -> dict[str, float] | None:
    if BAYES_PCTR not in log.train.columns:
        return None
    return {n: auc(part[label].to_numpy(), part[BAYES_PCTR].to_numpy()) for n, part in log.splits().items()}
