"""Which log to read, and the one place that chooses its reader."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.amazon_reviews import read_amazon_reviews
from model.data.assemble import Impressions, from_impressions, from_interactions
from model.data.atomic import read_atomic
from model.data.columns import negative_columns
from model.data.data_config import DataConfig
from model.data.dien_files import read_dien_files
from model.data.feature_log import read_feature_log
from model.data.interactions import Interactions
from model.data.movielens import read_movielens
from model.data.reading import Reading
from model.data.synthetic import synthesize
from model.data.table import read_table
from model.data.table_columns import FORMS
from model.data.taobao_ads import read_taobao_ads
from model.data.task import Log, read_task, write_task

__all__ = ["DataConfig", "Log", "read_log", "write_task"]


def read_log(config: DataConfig, schema: Schema, *, base: Path, reading: Reading | None = None) -> Log:
    """The log in task form. `base` is the folder that a relative path starts from; `reading` is told what was read.

    Raises ConfigError naming the file, the column or line, what was found and what is allowed.
    """
    reading = reading or Reading(max_malformed=config.max_malformed)
    named = negative_columns(schema)
    if named and config.format != "task":
        allowed = 'none: only a log in format "task" can hold negatives'
        raise ConfigError(file=str(base), key="schema.behavior.negatives", found=list(named.values()), allowed=allowed)
    if config.format == "synthetic":
        clicks = dataclasses.replace(config, positive_rating=1.0)
        generated = synthesize(config.synthetic, schema)
        return from_interactions(generated, clicks, schema, file="the synthetic log", reading=reading)
    if config.format == "shards":
        allowed = "the log that the shards were prepared from; guard and retrain read it out of core with --shards"
        raise ConfigError(file=str(base), key="data.format", found=config.format, allowed=allowed)
    if config.format in FORMS:
        return _table(config, schema, base, reading)
    return _READERS[config.format](_folder(config, base), config, schema, reading)


def _task(folder: Path, config: DataConfig, schema: Schema, reading: Reading) -> Log:
    return read_task(folder, schema)


def _served(folder: Path, config: DataConfig, schema: Schema, reading: Reading) -> Log:
    found = Impressions(rows=read_feature_log(folder, schema, reading))
    return from_impressions(found, config, schema, file=str(folder))


def _ads(folder: Path, config: DataConfig, schema: Schema, reading: Reading) -> Log:
    return from_impressions(read_taobao_ads(folder, schema, reading), config, schema, file=str(folder))


_Interactions = Callable[[Path, Schema, Reading], Interactions]


def _ratings(read: _Interactions) -> Callable[[Path, DataConfig, Schema, Reading], Log]:
    def reader(folder: Path, config: DataConfig, schema: Schema, reading: Reading) -> Log:
        return from_interactions(read(folder, schema, reading), config, schema, file=str(folder), reading=reading)

    return reader


_READERS: Mapping[str, Callable[[Path, DataConfig, Schema, Reading], Log]] = {
    "task": _task,
    "feature_log": _served,
    "dien_files": read_dien_files,
    "taobao_ads": _ads,
    "movielens": _ratings(read_movielens),
    "atomic": _ratings(read_atomic),
    "amazon_reviews": _ratings(read_amazon_reviews),
}


def _table(config: DataConfig, schema: Schema, base: Path, reading: Reading) -> Log:
    place = config.url or _folder(config, base)
    found = read_table(place, config, schema, reading)
    if isinstance(found, Interactions):
        clicks = dataclasses.replace(config, positive_rating=1.0)
        return from_interactions(found, clicks, schema, file=str(place), reading=reading)
    return from_impressions(Impressions(rows=found), config, schema, file=str(place))


def _folder(config: DataConfig, base: Path) -> Path:
    if config.path is None or config.url is not None:
        key = "path" if config.url is None else "url"
        allowed = f"the folder of a log in format {config.format!r}" if config.url is None else "only for a table"
        raise ConfigError(file=str(base), key=f"data.{key}", found=config.url, allowed=allowed)
    return base / config.path
