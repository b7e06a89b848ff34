"""The newest day of a log that is larger than memory, as the guard wants it: rows that every contender has scored.

log --by user, in files--> pieces with their histories --of the newest hours--> each one's own encoder and net
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.compare import ComparedRun
from model.data.columns import list_columns
from model.data.out_of_core import Encode, Preparation
from model.guard import Contender
from model.predictions import Predictions

Pair = tuple[ComparedRun, ComparedRun]  # the new one and the old one


def scored_out_of_core(new: Contender, old: Contender, work: Preparation, *, hours: float) -> Pair:
    """The scores of both of the rows of the newest `hours` of the test split, the same rows in the same order.

    What is held are a piece of the log and 40 bytes a row and contender. Raises ConfigError as `Contender.check`, and
    if there are no rows.
    """
    news, olds = [], []
    for rows, encode in work.newest(hours):
        news.append(_scored(new, rows, encode))
        olds.append(_scored(old, rows, encode))
    if not news:
        raise ConfigError(file="the log", key="test", found="no rows", allowed="rows to judge by")
    return new.compared(_joined(news)), old.compared(_joined(olds))


def _scored(contender: Contender, rows: pl.DataFrame, encode: Encode) -> Predictions:
    """What `Contender.scored` gives of rows whose histories are built, and so are no columns."""
    contender.check(rows.with_columns(pl.lit(None).alias(name) for name in list_columns(contender.encoder.schema)))
    return contender.predicted(encode(contender.encoder))


def _joined(parts: Sequence[Predictions]) -> Predictions:
    names = vars(parts[0])
    return Predictions(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in names})
