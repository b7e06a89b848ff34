"""Which log to read and how it becomes impressions: the `[data]` section of the file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.bundle.typed_table import setting
from model.data.synthetic import SyntheticConfig

Format = Literal[
    "task",
    "movielens",
    "atomic",
    "synthetic",
    "feature_log",
    "dien_files",
    "amazon_reviews",
    "amazon_electronics",
    "taobao_user_behavior",
    "taobao_ads",
    "table",
    "shards",
]
Negatives = Literal["uniform", "popularity"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the log is and how it becomes impressions; docs/data.md says what each format holds.

    The fractions apply to all logs but a `task`, which is split already. `path` is the folder with the files, relative
    to the config file's folder. A log of behaviors alone becomes next-item impressions: what came next, and one item
    of `negatives`.
    """

    format: Format
    path: Path | None = None
    url: str | None = None  # of a table, instead of `path`
    positive_rating: float = 4.0
    valid_fraction: float = setting(0.1, low=0.001, high=0.4)
    test_fraction: float = setting(0.1, low=0.001, high=0.4)
    max_malformed: float = setting(0.001, low=0.0, high=1.0)  # share of a file's lines; more is an error
    negatives: Negatives = "uniform"  # which unseen item stands against the next one
    split: Literal["time", "last"] = "time"  # last: each user's last item tests, the one before validates
    seed: int = setting(0, low=0, high=2**63 - 1)  # of the negatives, and of the users that validate `dien_files`
    columns: Mapping[str, str] | None = None  # of a table: the schema's name -> the file's
    text_ids: tuple[str, ...] = ()  # of a table: columns whose text is hashed to an integer
    memory_mb: float = setting(512.0, low=1.0)  # for rows of a log in shards, when it is prepared and when it is read
    lanes: int = setting(0, low=0, high=4096)  # of shards: what processes divide (`lanes`); 0: one for each of them
    synthetic: SyntheticConfig = dataclasses.field(default_factory=SyntheticConfig)
