"""`ctr-model prepare`: a log read once, with progress, written as a task, and summed up."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from model.bundle.errors import ConfigError
from model.config import RunConfig, read_config
from model.data.known import Known
from model.data.log import DataConfig, Log, read_log, write_task
from model.data.out_of_core import LOG, Plan, prepare_shards
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog, read_sharded_log
from model.data.text_ids import write_names
from model.incremental import check_schema, read_parent
from model.log_facts import AnyLog
from model.log_summary import reading_lines, summary_table
from model.progress import PreparationBar, ReadingBar
from model.tables import log_table
from model.terminal import clear_errors, console


def prepare(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    shards: Annotated[bool, typer.Option(help='Out of core: encoded rows in shards, for `format = "shards"`.')] = False,
    parent: Annotated[
        Path | None, typer.Option("--from", help="With --shards: a run or bundle to go on from, on newer rows.")
    ] = None,
) -> None:
    """Read the log once, write it as Parquet files that `format = "task"` reads, and say what it is."""
    if shards:
        _prepare_shards(config, out, parent=parent)
        return
    with clear_errors():
        if parent is not None:
            allowed = "with --shards: a log in memory learns new ids when `train --from` reads it"
            raise ConfigError(file="prepare", key="--from", found=str(parent), allowed=allowed)
        settings = read_config(config)
        _check_out(settings, out, other=LOG)
        started = time.monotonic()
        log, reading = read_with_progress(settings)
        seconds = time.monotonic() - started
        write_task(log, out)
        write_names(reading, out)
    console.print(log_table(log, settings))
    console.print(summary_table(log, settings.schema))
    print_reading(reading, seconds=seconds)
    console.print(f"wrote {out}", soft_wrap=True)


def _prepare_shards(config: Path, out: Path, *, parent: Path | None) -> None:
    with clear_errors():
        settings = read_config(config)
        started = time.monotonic()
        log, reading = prepared_shards(settings, out, known=read_parent(parent).known if parent else None)
        seconds = time.monotonic() - started
    console.print(log_table(log, settings))
    console.print(summary_table(log, settings.schema))
    print_reading(reading)
    rows = sum(split["rows"] for split in log.splits.values())
    console.print(
        f"prepared {rows:,} rows in {seconds:,.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s; wrote {out}",
        soft_wrap=True,
    )


def prepared_shards(
    settings: RunConfig, out: Path, *, known: Known | None, hours: float | None = None
) -> tuple[ShardedLog, Reading]:
    """The configured log as shards in `out`, with bars meanwhile; `known` and `hours` as in `out_of_core.Plan`."""
    data, schema = settings.data, settings.schema
    if known is not None:
        check_schema(known, schema)
    _check_out(settings, out, other="train.parquet")
    plan = dataclasses.replace(plan_of(data), known=known, hours=hours)
    with PreparationBar(console) as bar:
        reading = Reading(max_malformed=data.max_malformed)
        stream = read_stream(data, schema, base=settings.base, reading=reading)
        prepare_shards(stream, schema, plan=plan, out=out, report=bar)
    write_names(reading, out)
    return read_sharded_log(out, schema, memory_mb=data.memory_mb), reading


def _check_out(settings: RunConfig, out: Path, *, other: str) -> None:
    """Raise ConfigError for the folder of the log itself, where the log would be read with what was made of it, and
    for one with the file `other`, a log that was prepared the other way: both have files of the same names.
    """
    path = settings.data.path
    found = None if path is None or (settings.base / path).resolve() != out.resolve() else f"{out}, the log itself"
    if (out / other).exists():
        found = f"{out}, which has {other}"
    if found:
        allowed = "a folder of its own, without a log prepared otherwise"
        raise ConfigError(file="prepare", key="out", found=found, allowed=allowed)


def plan_of(data: DataConfig) -> Plan:
    """How the configuration wants a log prepared out of core."""
    return Plan(valid_fraction=data.valid_fraction, test_fraction=data.test_fraction, memory_mb=data.memory_mb)


def read_any(settings: RunConfig) -> tuple[AnyLog, Reading]:
    """`read_with_progress` for commands that take shards as well."""
    if settings.data.format != "shards":
        return read_with_progress(settings)
    folder = settings.base / (settings.data.path or "")
    return read_sharded_log(folder, settings.schema, memory_mb=settings.data.memory_mb), Reading()


def read_with_progress(settings: RunConfig) -> tuple[Log, Reading]:
    """The configured log, and what reading it came to; a bar per file while it is read."""
    with ReadingBar(console) as bar:
        reading = Reading(max_malformed=settings.data.max_malformed, report=bar)
        return read_log(settings.data, settings.schema, base=settings.base, reading=reading), reading


def print_reading(reading: Reading, *, seconds: float | None = None) -> None:
    """Print lines read, those malformed and the rows left out, with the reason."""
    for line in reading_lines(reading, seconds=seconds):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
