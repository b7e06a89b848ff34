"""`ctr-model prepare`: a log read once, with progress, written as a task, and summed up."""

import time
from pathlib import Path
from typing import Annotated

import typer

from model.config import RunConfig, read_config
from model.data.log import Log, read_log, write_task
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.data.sharded_log import read_sharded_log
from model.data.text_ids import write_names
from model.log_facts import AnyLog
from model.log_summary import reading_lines, summary_table
from model.progress import PreparationBar, ReadingBar
from model.tables import log_table
from model.terminal import clear_errors, console


def prepare(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    shards: Annotated[bool, typer.Option(help='Out of core: encoded rows in shards, for `format = "shards"`.')] = False,
) -> None:
    """Read the log once, write it as Parquet files that `format = "task"` reads, and say what it is."""
    if shards:
        _prepare_shards(config, out)
        return
    with clear_errors():
        settings = read_config(config)
        started = time.monotonic()
        log, reading = read_with_progress(settings)
        seconds = time.monotonic() - started
        write_task(log, out)
        write_names(reading, out)
    console.print(log_table(log, settings))
    console.print(summary_table(log, settings.schema))
    print_reading(reading, seconds=seconds)
    console.print(f"wrote {out}", soft_wrap=True)


def _prepare_shards(config: Path, out: Path) -> None:
    with clear_errors():
        settings = read_config(config)
        data, schema = settings.data, settings.schema
        plan = Plan(valid_fraction=data.valid_fraction, test_fraction=data.test_fraction, memory_mb=data.memory_mb)
        started = time.monotonic()
        with PreparationBar(console) as bar:
            reading = Reading(max_malformed=data.max_malformed)
            stream = read_stream(data, schema, base=settings.base, reading=reading)
            prepare_shards(stream, schema, plan=plan, out=out, report=bar)
        seconds = time.monotonic() - started
        write_names(reading, out)
        log = read_sharded_log(out, schema, memory_mb=data.memory_mb)
    console.print(log_table(log, settings))
    print_reading(reading)
    rows = sum(split["rows"] for split in log.splits.values())
    console.print(
        f"prepared {rows:,} rows in {seconds:,.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s; wrote {out}",
        soft_wrap=True,
    )


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
