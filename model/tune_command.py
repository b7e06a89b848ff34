"""`ctr-model tune`: search for good settings, and write them as a training file."""

import dataclasses
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from model.config import RunConfig, read_config
from model.pipeline import prepare
from model.prepare_command import read_any
from model.progress import TrainingBar
from model.search_space import Space, read_space, with_settings
from model.tables import log_table
from model.terminal import clear_errors, console
from model.tune import Outcome, Search

BEST = "best.toml"
_SHOWN = 10  # trials in the table


def tune(
    config: Annotated[Path, typer.Argument(help="The run's TOML file, with or without a [tune] table.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on with one that is there.")],
    trials: Annotated[int | None, typer.Option(min=1, help="How many in all, instead of tune.trials.")] = None,
    net: Annotated[str | None, typer.Option(help="Another net than the configured one.")] = None,
) -> None:
    """Search for the settings with the best validation AUC, and write them as OUT/best.toml for `train`.

    Ctrl-C stops; the same command goes on. The test split is not looked at. One process per folder at a time.
    """
    with clear_errors():
        settings, space = _read(config, trials=trials, net=net)
        log = read_any(settings)[0]
        console.print(log_table(log, settings))
        search = Search(out, settings, space, prepare(log, settings))
        try:
            _begin(search, settings)
            whole = search.run(lambda: TrainingBar(console, epochs=settings.train.epochs), _tell)
            best, outcomes = search.best(), search.outcomes()
        finally:
            search.close()
        console.print(outcomes_table(outcomes, list(space)))
        if best is not None:
            write_best(out / BEST, config, with_settings(settings, best.chosen, file=str(config)))
    if not whole:
        console.print("interrupted: the same command goes on", soft_wrap=True)
    if best is not None:
        console.print(f"trial {best.number} is the best; wrote {out / BEST}", soft_wrap=True)


def outcomes_table(outcomes: list[Outcome], keys: list[str]) -> Table:
    """The best trials first, those that were pruned or failed behind."""
    counts = {state: sum(o.state == state for o in outcomes) for state in ("complete", "pruned", "failed")}
    title = ", ".join(f"{count} {state}" for state, count in counts.items())
    table = Table("trial", "validation AUC", "best epoch", "settings", title=f"{len(outcomes)} trials: {title}")
    order = sorted(outcomes, key=lambda o: (o.state != "complete", -o.auc if o.auc == o.auc else 1.0))
    for one in order[:_SHOWN]:
        auc = f"{one.auc:.4f}" + ("" if one.state == "complete" else f" {one.state}")
        epochs = f"{one.epochs:.2f}" if one.epochs == one.epochs else "-"
        table.add_row(str(one.number), auc, epochs, ", ".join(f"{key} {_short(one.chosen.get(key))}" for key in keys))
    return table


def write_best(path: Path, config: Path, best: RunConfig) -> None:
    """The training file `config` with the settings of `best`. Its paths lead to the same files from `path`."""
    import tomli_w  # noqa: PLC0415  # an optional dependency, of the same extra as Optuna

    table = tomllib.loads(config.read_text(encoding="utf-8"))
    table.pop("tune", None)
    before, after = table.get("train", {}), vars(best.train)
    default = vars(type(best.train)())
    table["train"] = {name: value for name, value in after.items() if name in before or value != default[name]}
    table["net"] = json.loads(json.dumps(dict(best.net)))
    places: list[tuple[dict[str, Any], str]] = [(table["data"], "path")]
    places += [(one, "file") for one in table.get("pretrained", [])]
    for holder, key in places:
        if key in holder:
            holder[key] = os.path.relpath(config.parent / holder[key], path.parent)
    path.write_text(f"# The best of a search by `ctr-model tune`.\n{tomli_w.dumps(table)}", encoding="utf-8")


def _read(config: Path, *, trials: int | None, net: str | None) -> tuple[RunConfig, Space]:
    settings = read_config(config)
    settings = settings.with_net(net) if net else settings
    if trials is not None:
        settings = dataclasses.replace(settings, tune=dataclasses.replace(settings.tune, trials=trials))
    return settings, read_space(settings, file=str(config))


def _begin(search: Search, settings: RunConfig) -> None:
    done = len(search.outcomes())
    told = f"going on after {done} trials" if done else "a new study"
    console.print(
        f"{told} of {settings.tune.trials}; seed {settings.train.seed}, pruner {settings.tune.pruner}", soft_wrap=True
    )


def _tell(outcome: Outcome) -> None:
    chosen = ", ".join(f"{key} {_short(value)}" for key, value in outcome.chosen.items())
    console.print(f"trial {outcome.number}: {outcome.state}, AUC {outcome.auc:.4f}; {chosen}", soft_wrap=True)


def _short(value: Any) -> str:  # noqa: ANN401  # a TOML value
    return f"{value:.4g}" if isinstance(value, float) else str(value)
