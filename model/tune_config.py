"""What a search tries: the `[tune]` section of the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model.bundle.typed_table import setting

Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How many trainings, which of them end early, and which settings vary; without a `space` a usual one is taken."""

    trials: int = setting(20, low=1, high=100_000)
    pruner: Pruner = "median"
    space: Mapping[str, Any] | None = None  # Any: TOML tables, which `search_space` checks
