"""`ctr-model retrain`: one day's turn, as a scheduler runs it.

    log --the newest hours apart--> train on what the parent lacks --> judge on those hours --> export --> pointer

Nothing of the bundles' folder is touched before the new net has passed.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from model.bundle.folder import resolve
from model.bundle.pointers import CANARY, STABLE, read_pointer, write_pointer
from model.code_version import code_version
from model.config import RunConfig, read_config
from model.data.sharded_log import ShardedLog
from model.guard import Contender, Tolerance, contender_of, judge, open_contender
from model.guard_command import (
    Hours,
    Pointer,
    WorseAuc,
    WorseLogLoss,
    judged_out_of_core,
    stop_if_refused,
    verdict_table,
)
from model.guard_out_of_core import Pair
from model.incremental import Parent, read_parent
from model.log_facts import AnyLog
from model.moments import save_moments, with_moments
from model.newest_day import by_newest_hours
from model.pipeline import evaluated, prepare, run_training
from model.prepare_command import plan_of, prepared_shards, print_reading, read_with_progress
from model.progress import TrainingBar
from model.publish import publish
from model.run_folder import TrainedRun, save_figures, save_run
from model.tables import log_table
from model.terminal import clear_errors, console
from model.tracking import tell_bundle, tracking

_DEFAULT = Tolerance()


def retrain(  # noqa: PLR0913  # one parameter per flag
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    *,
    bundles: Annotated[Path, typer.Option(help="Folder of the bundle's versions, such as bundles/din.")],
    run: Annotated[Path, typer.Option(help="Folder of the run to write.")],
    hours: Hours = 24.0,
    pointer: Annotated[Pointer, typer.Option(help="What to point at a bundle that passes; a first one: stable.")] = (
        "canary"
    ),
    shards: Annotated[
        Path | None, typer.Option(help="Out of core: the log is prepared in this folder, and trained from there.")
    ] = None,
    anew: Annotated[bool, typer.Option(help="Train on all of the log, not from the last bundle.")] = False,
    auc: WorseAuc = _DEFAULT.auc,
    log_loss: WorseLogLoss = _DEFAULT.log_loss,
) -> None:
    """Go on training from the last bundle, and export and point at the new one if it passes the guard.

    The last bundle is the one that `canary` names, else `stable`; without either training begins anew. The guard
    compares with `stable`. Exit code 1: refused, and no bundle is written.
    """
    with clear_errors():
        settings = read_config(config)
        serving = open_contender(bundles) if read_pointer(bundles, STABLE) else None
        parent = (
            None if anew or serving is None else with_moments(read_parent(_last_bundle(bundles)), run, settings.train)
        )
        log = _split(settings, shards, hours=hours, parent=parent)
        console.print(log_table(log, settings))
        trained = _trained(log, settings, parent, out=run)
        pair = _scored(trained, serving, log, settings, hours=hours) if serving else None
        verdict = judge(*pair, Tolerance(auc=auc, log_loss=log_loss)) if pair else None
    if verdict is not None:
        console.print(verdict_table(verdict))
        stop_if_refused(verdict)
    with clear_errors():
        moved = pointer if serving else STABLE
        version = _published(trained, bundles)
        write_pointer(bundles, moved, version)
        tell_bundle(run, bundles / version)
    console.print(f"{moved} is {version}", soft_wrap=True)


def _last_bundle(bundles: Path) -> Path:
    return resolve(bundles / CANARY) if read_pointer(bundles, CANARY) else resolve(bundles)


def _split(settings: RunConfig, shards: Path | None, *, hours: float, parent: Parent | None) -> AnyLog:
    """The log with its newest hours apart, in memory or prepared in shards."""
    if shards is not None:
        prepared, reading = prepared_shards(settings, shards, known=parent.known if parent else None, hours=hours)
        print_reading(reading)
        return prepared
    log, reading = read_with_progress(settings)
    print_reading(reading)
    return by_newest_hours(
        log,
        timestamp=settings.schema.keys.timestamp,
        hours=hours,
        valid_fraction=settings.data.valid_fraction,
        after=parent.last if parent else None,
    )


def _trained(log: AnyLog, settings: RunConfig, parent: Parent | None, *, out: Path) -> TrainedRun:
    """The run, in its folder too, with the figures of the newest hours."""
    if parent is not None:
        told = ", and so does the optimiser" if parent.moments is not None else ""
        console.print(f"going on from {parent.name} {parent.version}{told}", soft_wrap=True)
    prepared = prepare(log, settings, parent=parent)
    with TrainingBar(console, epochs=settings.train.epochs) as bar, tracking(settings, out, bar) as track:
        trained, training = run_training(log, prepared, settings, report=track)
        if training.interrupted:
            raise KeyboardInterrupt  # half a turn is not to be exported
        save_run(out, trained)
        save_moments(out, training, settings.train)
        trained = evaluated(trained, log, split="test")
        save_figures(out, trained)
        track.finished(trained, out, interrupted=False)
    return trained


def _scored(trained: TrainedRun, serving: Contender, log: AnyLog, settings: RunConfig, *, hours: float) -> Pair:
    """The scores of the newest hours by the run and by what serves."""
    new = contender_of(trained, name="this run")
    if isinstance(log, ShardedLog):  # encoded for the new net alone: the old one reads the log itself
        plan = replace(plan_of(settings.data), hours=hours)
        return judged_out_of_core((new, serving), settings, plan=plan, folder=log.folder, hours=hours)
    return new.compared(trained.predictions["test"]), serving.scored(log.test)


def _published(trained: TrainedRun, bundles: Path) -> str:
    now = datetime.now(UTC)
    version = now.strftime("%Y%m%d-%H%M%S")
    publish(trained, bundles, version=version, code_version=code_version(), created=int(now.timestamp()))
    return version
