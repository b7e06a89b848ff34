"""`ctr-model guard`: judge a new net on the newest day against the one that serves, and promote it if it passes."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from model.bundle.folder import resolve
from model.bundle.pointers import STABLE, write_pointer
from model.config import RunConfig, read_config
from model.data.out_of_core import Plan, Preparation
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.guard import Contender, Tolerance, Verdict, judge, open_contender
from model.guard_out_of_core import Pair, scored_out_of_core
from model.newest_day import newest
from model.prepare_command import plan_of, read_with_progress
from model.progress import PreparationBar
from model.terminal import clear_errors, console, errors

Pointer = Literal["stable", "canary"]
Hours = Annotated[float, typer.Option(min=0.01, help="How much of the log's end both are judged on.")]
WorseAuc = Annotated[float, typer.Option("--auc-tolerance", help="AUC may be lower by so much.")]
WorseLogLoss = Annotated[
    float, typer.Option("--log-loss-tolerance", help="Log loss may be higher by so much, in nats.")
]

_DEFAULT = Tolerance()


def guard(  # noqa: PLR0913  # one parameter per flag
    new: Annotated[Path, typer.Argument(help="A bundle, or a run.")],
    old: Annotated[Path | None, typer.Argument(help="What it is compared with. Default: `stable` beside it.")] = None,
    *,
    config: Annotated[Path, typer.Option(help="The TOML file that names the log; its test split is judged on.")],
    hours: Hours = 24.0,
    auc: WorseAuc = _DEFAULT.auc,
    log_loss: WorseLogLoss = _DEFAULT.log_loss,
    promote: Annotated[Pointer | None, typer.Option(help="Point this at the new bundle if it passes.")] = None,
    shards: Annotated[
        Path | None, typer.Option(help="Out of core: the log is read block by block, with files in this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Refuse, with exit code 1, a net that is worse than the old one on the newest day of the log."""
    with clear_errors():
        settings = read_config(config)
        version = resolve(new) if promote else new
        contender, serving = open_contender(new), open_contender(old or version.parent / STABLE)
        if shards is None:
            log = read_with_progress(settings)[0]
            rows = newest(log.test, timestamp=settings.schema.keys.timestamp, hours=hours)
            judged = contender.scored(rows), serving.scored(rows)
        else:
            plan = plan_of(settings.data)
            judged = judged_out_of_core((contender, serving), settings, plan=plan, folder=shards, hours=hours)
        verdict = judge(*judged, Tolerance(auc=auc, log_loss=log_loss))
    if as_json:
        typer.echo(json.dumps(verdict.to_table()))
    else:
        console.print(verdict_table(verdict))
    stop_if_refused(verdict)
    if promote:
        with clear_errors():
            write_pointer(version.parent, promote, version.name)
        console.print(f"{promote} is {version.name}", soft_wrap=True)


def judged_out_of_core(
    nets: tuple[Contender, Contender], settings: RunConfig, *, plan: Plan, folder: Path, hours: float
) -> Pair:
    """Scores by both of the newest hours of the test split, which `plan` says, of a log that is read block by block;
    `folder` holds it while that lasts.
    """
    data, schema, scratch = settings.data, settings.schema, folder / ".judged"
    shutil.rmtree(scratch, ignore_errors=True)
    reading = Reading(max_malformed=data.max_malformed)
    try:
        with PreparationBar(console) as bar:
            stream = read_stream(data, schema, base=settings.base, reading=reading)
            work = Preparation(stream, schema, plan, scratch=scratch, report=bar)
            return scored_out_of_core(*nets, work, hours=hours)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def stop_if_refused(verdict: Verdict) -> None:
    """Print what speaks against the new net, and leave with exit code 1 if it is refused."""
    for doubt in verdict.unsure:
        errors.print(f"note: {doubt}", style="yellow", markup=False, soft_wrap=True)
    if verdict.reasons:
        errors.print(f"refused: {'; '.join(verdict.reasons)}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def verdict_table(verdict: Verdict) -> Table:
    """Both nets' figures on the newest day, and the differences with their intervals."""
    old, new = verdict.comparison["runs"]
    title = f"newest day, {new['rows']:,} rows"
    table = Table("metric", f"old: {old['run']}", f"new: {new['run']}", "difference (95 %)", title=title)
    for name, said in (("auc", "AUC"), ("gauc", "GAUC"), ("log_loss", "log loss"), ("pcoc", "PCOC")):
        table.add_row(said, *(_number(run["metrics"][name]) for run in (old, new)), _difference(new, name))
    return table


def _difference(new: dict[str, Any], name: str) -> str:  # Any: JSON
    found = new["difference"][name]
    if found["value"] is None or found["low"] is None:
        return "-"
    return f"{found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def _number(found: dict[str, Any]) -> str:  # Any: JSON
    return "-" if found["value"] is None else f"{found['value']:.4f}"
