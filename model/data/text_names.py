"""The texts of a log that became integers, met block by block."""

import polars as pl

from model.bundle.errors import ConfigError

_NONE = pl.DataFrame(schema={"id": pl.Int64, "text": pl.String})


class TextNames:
    """Every text of a column once, with its integer.

    They are held in runs that ascend by integer, each at least twice as long as the next one. So a block costs what is
    in it and not what was met before, and an integer that another text has is found at once.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._runs: list[pl.DataFrame] = []

    def add(self, told: pl.DataFrame) -> None:
        """Take note of `id` and `text`. Raises ConfigError if two texts have one integer."""
        new = told.unique().sort("id")
        self._check(new["text"].filter(new["id"].is_duplicated()))
        for run in self._runs:
            at = run["id"].search_sorted(new["id"])
            there = run[at.clip(upper_bound=len(run) - 1)]
            met = there["id"] == new["id"]
            other = met & there["text"].ne_missing(new["text"])
            self._check(pl.concat([there["text"].filter(other), new["text"].filter(other)]))
            new = new.filter(~met)
        if len(new):
            self._runs.append(new)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            self._runs[-2:] = [pl.concat(self._runs[-2:]).sort("id")]

    def total(self) -> pl.DataFrame:
        """All of them: `id` and `text`, ascending by `id`."""
        return pl.concat([_NONE, *self._runs]).sort("id")

    def _check(self, twice: pl.Series) -> None:
        if len(twice):
            found = sorted(map(str, twice))[:2]
            raise ConfigError(
                file="the log", key=f"column {self._column}", found=found, allowed="texts of different hashes"
            )
