"""`ctr-model train`: from a configured log to a run; alone, or as one of the processes that torchrun started."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from model.checkpoint import lanes_begun
from model.config import RunConfig, read_config
from model.data.known import LEARNED
from model.data.log import Log
from model.incremental import Parent, newer, read_parent
from model.log_facts import AnyLog
from model.moments import MOMENTS, save_moments, with_moments
from model.pipeline import checkpoints_of, follow_training, prepare, run_training
from model.prepare_command import print_reading, read_any
from model.progress import TrainingBar
from model.ranks import Ranks, current_ranks, joined
from model.run_folder import TrainedRun, save_run
from model.tables import figures_table, log_table
from model.terminal import clear_errors, console
from model.tracking import tracking
from model.training import Training


def train(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run to write.")],
    net: Annotated[str | None, typer.Option(help="Another net than the configured one.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder, if there is one.")] = False,
    parent: Annotated[Path | None, typer.Option("--from", help="A run or bundle to go on from, on newer rows.")] = None,
) -> None:
    """Train and write a run with the weights of the best validation AUC. Ctrl-C stops and keeps the best so far.

    Under torchrun the processes divide every batch: `torchrun --nproc-per-node 2 -m model.cli train ...`.
    """
    with clear_errors():
        settings = read_config(config)
        settings = settings.with_net(net) if net else settings
        with joined(settings.train.device):
            train_configured(settings, out=out, resume=resume, parent=_parent(parent, settings, out))


def _parent(path: Path | None, settings: RunConfig, out: Path) -> Parent | None:
    """What `--from` names; of a bundle the run in `out` may have the moments."""
    if path is None:
        return None
    folder = path if (path / MOMENTS).is_file() else out
    return with_moments(read_parent(path), folder, settings.train)


def train_configured(settings: RunConfig, *, out: Path, resume: bool, parent: Parent | None = None) -> None:
    """What one rank does, alone or not: it reads the log and trains; the first one writes the run and prints."""
    ranks = current_ranks()
    with _first_prints(ranks):
        _train(settings, ranks, out=out, resume=resume, parent=parent)


def _train(settings: RunConfig, ranks: Ranks, *, out: Path, resume: bool, parent: Parent | None) -> None:
    if resume and not settings.data.lanes:  # as many as were begun with, however many ranks go on
        settings = replace(settings, data=replace(settings.data, lanes=lanes_begun(out)))
    log, reading = read_any(settings)
    if parent is not None and isinstance(log, Log):
        every = len(log.train)
        log = newer(log, parent, timestamp=settings.schema.keys.timestamp)
        reading.leave_out(LEARNED, every - len(log.train))
    console.print(log_table(log, settings))
    print_reading(reading)
    if parent is not None and parent.moments is not None:
        console.print("going on, and so does the optimiser", soft_wrap=True)
    prepared = prepare(log, settings, parent=parent)
    checkpoints = checkpoints_of(prepared, settings, folder=out, resume=resume)
    if resume:
        place = checkpoints.start.place if checkpoints.start else None
        console.print(
            f"going on in epoch {place['epoch']}" if place else "no checkpoint: starting anew", soft_wrap=True
        )
    if not ranks.first:
        follow_training(prepared, settings, checkpoints=checkpoints)
        return
    with (
        TrainingBar(console, epochs=settings.train.epochs) as bar,
        tracking(settings, out, bar, resume=resume) as track,
    ):
        run, training = run_training(log, prepared, settings, report=track, checkpoints=checkpoints)
        save_run(out, run)
        save_moments(out, training, settings.train)
        track.finished(run, out, interrupted=training.interrupted)
    _print(run, training, log, told=f"{bar.samples_per_s:,.0f} samples/s{_together(ranks)}; wrote {out}")


def _print(run: TrainedRun, training: Training, log: AnyLog, *, told: str) -> None:
    if training.interrupted:
        console.print("interrupted: keeping the best weights so far", soft_wrap=True)
    for name, counts in run.metrics.get("pretrained", {}).items():
        console.print(
            f"pretrained {name}: {counts['found']:,} ids found, {counts['missing']:,} missing", soft_wrap=True
        )
    console.print(f"{run.config['net']['kind']}: best after {training.best_epoch:.2f} epochs, {told}", soft_wrap=True)
    console.print(figures_table(run, log.bayes_auc))


def _together(ranks: Ranks) -> str:
    return f" by {ranks.size} processes" if ranks.size > 1 else ""


@contextmanager
def _first_prints(ranks: Ranks) -> Iterator[None]:
    """Inside, only the first rank prints; errors of every rank are told."""
    before, console.quiet = console.quiet, console.quiet or not ranks.first
    try:
        yield
    finally:
        console.quiet = before
