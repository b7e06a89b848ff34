"""`ctr-model prepare`: a log read once, with progress, written as a task, and summed up."""

import time
from pathlib import Path
from typing import Annotated

import typer

from model.config import RunConfig, read_config
from model.data.log import Log, read_log, write_task
from model.data.reading import Reading
from model.data.text_ids import write_names
from model.log_summary import reading_lines, summary_table
from model.progress import ReadingBar
from model.tables import log_table
from model.terminal import clear_errors, console


def prepare(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Read the log once, write it as Parquet files that `format = "task"` reads, and say what it is."""
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
    console.print(f"wrote {out}")


def read_with_progress(settings: RunConfig) -> tuple[Log, Reading]:
    """The configured log, and what reading it came to; a bar per file while it is read."""
    with ReadingBar(console) as bar:
        reading = Reading(max_malformed=settings.data.max_malformed, report=bar)
        return read_log(settings.data, settings.schema, base=settings.base, reading=reading), reading


def print_reading(reading: Reading, *, seconds: float | None = None) -> None:
    """Print lines read, those malformed and the rows left out, with the reason."""
    for line in reading_lines(reading, seconds=seconds):
        console.print(line, markup=False, highlight=False)
