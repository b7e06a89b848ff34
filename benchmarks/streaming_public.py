"""Generated logs in the forms of Taobao's `UserBehavior.csv` and of its display advertising, of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.streaming_log import CATEGORIES, ITEMS, ROWS_PER_USER, SLICE_ROWS, generate
from benchmarks.streaming_log import SCHEMA as TABLE_SCHEMA
from model.bundle.vocabulary import Ids

_START, _SPAN = 1_511_539_200, 9 * 86_400  # seconds
_BRANDS, _BESIDE = 20_000, 10  # behaviors for each impression

_NEXT_ITEM = """
[schema]
max_history = 50
keys = { user = "user_id", item = "item_id", category = "cate_id" }
item = [{ name = "item_id", dim = 8 }, { name = "cate_id", dim = 8 }]
behavior = [
  { shares = "item_id", column = "hist_item_ids" },
  { shares = "cate_id", column = "hist_cate_ids" },
]
"""
_ADS = """
[schema]
max_history = 50
keys = { user = "user_id", item = "item_id", category = "cate_id" }
user = [{ name = "age_level", dim = 4 }]
context = [{ name = "pid", dtype = "str", dim = 4 }]
item = [{ name = "item_id", dim = 8 }, { name = "cate_id", dim = 8 }, { name = "brand", dim = 8 }]
behavior = [
  { shares = "item_id", column = "hist_item_ids" },
  { shares = "cate_id", column = "hist_cate_ids" },
]
"""


_Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A log's `data.format`, its schema as TOML, and what writes so many rows of it into a folder."""

    format: str
    schema: str
    generate: Callable[[Path, int], None]


class _Crowd:
    """Users of whom each does half of all things in one category, and when."""

    def __init__(self, rows: int) -> None:
        self.rng = np.random.default_rng(0)
        self.liked = self.rng.integers(CATEGORIES, size=max(rows // ROWS_PER_USER, 1))

    def act(self, count: int) -> tuple[Ids, Ids, Ids]:
        """[N] user, category and item, from 0."""
        user = self.rng.integers(len(self.liked), size=count)
        other = self.rng.integers(CATEGORIES, size=count)
        category = np.where(self.rng.random(count) < 0.5, self.liked[user], other)
        # Items of a category are those with its number as remainder; early ones are met more often.
        nth = (ITEMS // CATEGORIES * self.rng.random(count) ** 2).astype(np.int64)
        return user, category, category + CATEGORIES * nth


def generate_behaviors(folder: Path, rows: int) -> None:
    """`UserBehavior.csv`: user, item, category, action, time."""
    crowd = _Crowd(rows)

    def columns(times: Ids) -> _Columns:
        user, category, item = crowd.act(len(times))
        action = np.array(["pv", "cart", "fav", "buy"])[
            crowd.rng.choice(4, size=len(times), p=[0.89, 0.06, 0.03, 0.02])
        ]
        return {"user": user + 1, "item": item + 1, "category": category + 1, "action": action, "time": times}

    _write(folder / "UserBehavior.csv", rows, columns, header=False)


def generate_ads(folder: Path, rows: int) -> None:
    """The four files: of 11 rows one is an impression and ten are behaviors."""
    crowd, ads = _Crowd(rows), np.arange(ITEMS)
    shown, brand = rows // (_BESIDE + 1), crowd.rng.integers(1, _BRANDS, size=ITEMS)
    users = np.arange(len(crowd.liked))

    def sample(times: Ids) -> _Columns:
        user, category, ad = crowd.act(len(times))
        clicked = crowd.rng.random(len(times)) < np.where(category == crowd.liked[user], 0.09, 0.03)
        pid = np.full(len(times), "430548_1007")
        columns: _Columns = {"user": user + 1, "time_stamp": times, "adgroup_id": ad + 1, "pid": pid}
        return {**columns, "nonclk": 1 - clicked, "clk": clicked.astype(np.int64)}

    def behaviors(times: Ids) -> _Columns:
        user, category, item = crowd.act(len(times))
        columns: _Columns = {"user": user + 1, "time_stamp": times, "btag": np.full(len(times), "pv")}
        return {**columns, "cate": category + 1, "brand": brand[item]}

    told: _Columns = {"adgroup_id": ads + 1, "cate_id": ads % CATEGORIES + 1, "campaign_id": ads, "customer": ads // 7}
    folder.mkdir(parents=True)
    pl.DataFrame({**told, "brand": brand, "price": ads % 100 + 0.5}).write_csv(folder / "ad_feature.csv")
    names = ("cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level")
    profile: _Columns = dict.fromkeys((*names, "occupation", "new_user_class_level "), users % 7)
    pl.DataFrame({"userid": users + 1, **profile}).write_csv(folder / "user_profile.csv")
    _write(folder / "raw_sample.csv", shown, sample)
    _write(folder / "behavior_log.csv", rows - shown, behaviors)


def _write(path: Path, rows: int, columns: Callable[[Ids], _Columns], *, header: bool = True) -> None:
    """So many rows, a slice of time at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, slices = np.random.default_rng(1), -(-rows // SLICE_ROWS)
    with path.open("wb") as file:
        for at in range(slices):
            count = min(SLICE_ROWS, rows - at * SLICE_ROWS)
            times = _START + np.sort(((at + rng.random(count)) * _SPAN / slices).astype(np.int64))
            pl.DataFrame(columns(times)).write_csv(file, include_header=header and not at)


FORMS = {
    "table": Form(format="table", schema=TABLE_SCHEMA, generate=generate),
    "behaviors": Form(format="taobao_user_behavior", schema=_NEXT_ITEM, generate=generate_behaviors),
    "ads": Form(format="taobao_ads", schema=_ADS, generate=generate_ads),
}
