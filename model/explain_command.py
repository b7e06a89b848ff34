"""`ctr-model explain`: why candidates got their scores, as a table or as the JSON of POST /score."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.explain import explain_request, open_source
from model.request import OfflineRequest, read_request
from model.terminal import clear_errors, console

_SHOWN = 6  # candidates in the table of behaviors


def explain(
    source: Annotated[Path, typer.Argument(help="A run written by `train`, a bundle, or a folder with `stable`.")],
    *,
    request: Annotated[Path | None, typer.Option(help="A JSON file in the form of POST /score, with history.")] = None,
    user: Annotated[str | None, typer.Option(help="The user's id, instead of the file's.")] = None,
    item: Annotated[list[int] | None, typer.Option(help="A candidate, instead of the file's; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say why candidates get their scores: attention by behavior, what the history adds, what is unknown."""
    with clear_errors():
        opened = open_source(source)
        asked = _read(request, user, item, schema=opened.encoder.schema)
        explanation = explain_request(opened, asked, now_ms=int(time.time() * 1000))
    if as_json:
        typer.echo(json.dumps({"explanation": explanation}, default=_plain))
        return
    for table in explanation_tables(explanation, title=opened.name):
        console.print(table)
    if explanation["unknown_features"]:
        console.print(f"unknown of user and context: {', '.join(explanation['unknown_features'])}", soft_wrap=True)


def explanation_tables(explanation: dict[str, Any], *, title: str) -> list[Table]:
    """The candidates; and below them the weight, and how far it moved the interest, of each behavior."""
    numbers = ("pctr", "pctr_uncalibrated", "logit", "logit_without_history", "history_effect")
    candidates = Table("item", *(name.replace("_", " ") for name in numbers), "unknown", title=title)
    for one in explanation["candidates"]:
        unknown = ", ".join(one["unknown_features"])
        candidates.add_row(str(one["item_id"]), *(f"{one[name]:.4f}" for name in numbers), unknown)
    shown = [one for one in explanation["candidates"][:_SHOWN] if one["attention"] is not None]
    if not shown or not explanation["behaviors"]:
        return [candidates]
    heads = [f"for {one['item_id']}" for one in shown]
    behaviors = Table("behavior", "category", "time", *heads, "unknown", title="attention (update)")
    for at, behavior in enumerate(explanation["behaviors"]):
        about = ("-" if behavior[name] is None else str(behavior[name]) for name in ("category", "time"))
        weights = [_weight(one, at) for one in shown]
        behaviors.add_row(str(behavior["item_id"]), *about, *weights, ", ".join(behavior["unknown_features"]))
    return [candidates, behaviors]


def _weight(candidate: dict[str, Any], at: int) -> str:
    weight = f"{candidate['attention'][at]:.4f}"
    return weight if candidate["update"] is None else f"{weight} ({candidate['update'][at]:.4f})"


def _read(path: Path | None, user: str | None, items: list[int] | None, *, schema: Schema) -> OfflineRequest:
    """The file's request with what the options replace. Raises ConfigError, OSError."""
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(file=str(path), key="(file)", found=str(error), allowed="JSON") from error
        if not isinstance(table, dict):
            raise ConfigError(file=str(path), key="(file)", found=type(table).__name__, allowed="an object")
    if user is not None:
        table["user_id"] = int(user) if user.isdecimal() else user
    if items:
        table["candidates"] = {schema.keys.item: items}
    if "user_id" not in table:
        raise ConfigError(file=str(path or "options"), key="user_id", found=None, allowed="an id; --user gives one")
    return read_request(table, schema, file=str(path or "options"))


def _plain(value: Any) -> Any:  # noqa: ANN401  # numpy's arrays and numbers, as JSON has them
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
