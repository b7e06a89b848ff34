"""What the public tables call their columns, and which columns of a table a run reads."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.columns import Kind, impression_columns
from model.data.data_config import DataConfig
from model.data.interactions import field_types
from model.data.source import File

ACTION = "action"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published table: what it calls the roles of the schema's `keys`, and the action.

    header   whether a first line has those names; otherwise they are in that order
    actions  what it calls an action -> what we do (`records.ACTIONS`)
    """

    columns: Mapping[str, str]
    header: bool = True
    actions: Mapping[str, str] | None = None


# The public tables that differ in names alone.
FORMS: Mapping[str, Published] = {
    "table": Published(columns={}),
    # torch-rechub, examples/ranking/data/amazon-electronics
    "amazon_electronics": Published(
        columns={"user": "user_id", "item": "item_id", "timestamp": "time", "category": "cate_id"}
    ),
    # Alibaba's "User Behavior Data from Taobao for Recommendation"
    "taobao_user_behavior": Published(
        columns={"user": "user", "item": "item", "category": "category", ACTION: ACTION, "timestamp": "time"},
        header=False,
        actions={"pv": "click", "cart": "cart", "fav": "favorite", "buy": "buy"},
    ),
}


class Wanted:
    """The columns that a run reads of a table, by the table's names, and what their values must be."""

    def __init__(self, config: DataConfig, schema: Schema) -> None:
        self.form, keys, named = FORMS[config.format], schema.keys, config.columns or {}
        roles = {"user": keys.user, "item": keys.item, "category": keys.category or "category"}
        roles["timestamp"] = keys.timestamp
        published = {roles.get(role, role): theirs for role, theirs in self.form.columns.items()}
        self._theirs: dict[str, str] = {**published, **named}
        kinds = {**impression_columns(schema), ACTION: "text"}
        for key, names in (("columns", named), ("text_ids", config.text_ids)):
            if unknown := [name for name in names if name not in kinds]:
                allowed = "columns of the schema: " + ", ".join(kinds)
                raise ConfigError(file="config", key=f"data.{key}", found=unknown[0], allowed=allowed)
        self.keys = (keys.user, keys.item, keys.timestamp)
        features = [f.name for side in ("user", "item", "context") for f in schema.features(side)]
        self._needed = dict.fromkeys([*self.keys, *features, *named])
        self.types = {name: _type(kind) for name, kind in kinds.items()}
        text = pl.String if config.format == "table" else pl.Int64
        self.types[keys.user] = field_types(schema.user).get(keys.user, text)
        self.types |= {name: pl.String for name in config.text_ids if name in kinds}
        self.numbers = frozenset(name for name, kind in kinds.items() if kind == "number")
        self._label = keys.label

    def among(self, theirs: list[str], file: File) -> dict[str, str]:
        """The table's name of a column -> the schema's, of those that are wanted, in the schema's order.

        Raises ConfigError if user, item, time, a feature or a column that the configuration names is not there.
        """
        named = {self._theirs.get(name, name): name for name in self.types}
        found = {name: ours for name, ours in named.items() if name in theirs}
        for key in self._needed:
            if key not in found.values():
                allowed = f"a column {self._theirs.get(key, key)}, or its name in [data.columns]"
                raise ConfigError(file=str(file), key=f"column {key}", found=theirs, allowed=allowed)
        return found

    def bounds(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a column of numbers."""
        if name == self.keys[2]:
            return -(2**53), 2**53
        if name in self.numbers:
            return -sys.float_info.max, sys.float_info.max
        return 0, 1 if name == self._label else 2**63 - 1

    def valid(self, names: Iterable[str]) -> pl.Expr:
        """What must be true of a row's typed values."""
        every = [pl.col(name).is_between(*self.bounds(name)) for name in names if self.types[name] == pl.Int64]
        if ACTION in names and self.form.actions is not None:
            every.append(pl.col(ACTION).is_in(list(self.form.actions)))
        return pl.all_horizontal(pl.lit(True), *every)


def _type(kind: Kind) -> Any:  # noqa: ANN401  # polars' types and their instances
    match kind:
        case "ids" | "texts":
            return pl.List(pl.Int64 if kind == "ids" else pl.String)
        case "number":
            return pl.Float64
        case "text":
            return pl.String
        case _:
            return pl.Int64
