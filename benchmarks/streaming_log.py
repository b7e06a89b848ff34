"""A generated log of any size, written a slice of time at a time, so that its size costs disk and no memory."""

from pathlib import Path

import numpy as np
import polars as pl

ITEMS, CATEGORIES = 100_000, 1_000
ROWS_PER_USER = 100
SLICE_ROWS = 500_000
_START, _SPAN = 1_700_000_000, 28 * 86_400  # seconds

SCHEMA = """
[schema]
max_history = 50
keys = { user = "user_id", item = "item_id", category = "cate_id" }
context = [{ name = "hour", dim = 4 }]
item = [{ name = "item_id", dim = 8 }, { name = "cate_id", dim = 8 }, { name = "price", kind = "dense" }]
behavior = [
  { shares = "item_id", column = "hist_item_ids" },
  { shares = "cate_id", column = "hist_cate_ids" },
]
"""


def generate(folder: Path, rows: int, *, seed: int = 0) -> None:
    """Write `rows` impressions as Parquet files, in order of time, as a `table` has them; 100 a user on average.

    A user clicks more on items of one category, which changes half-way; half of what is shown is of it.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    users = max(rows // ROWS_PER_USER, 1)
    price = np.round(np.exp(rng.normal(3.0, 0.5, ITEMS)), 2)
    quality = rng.normal(0.0, 0.5, ITEMS)
    taste = rng.integers(CATEGORIES, size=(2, users), dtype=np.int32)
    slices = -(-rows // SLICE_ROWS)
    for at in range(slices):
        count = min(SLICE_ROWS, rows - at * SLICE_ROWS)
        times = _START + np.sort(((at + rng.random(count)) * _SPAN / slices).astype(np.int64))
        user = rng.integers(users, size=count)
        liked = taste[int(2 * at >= slices), user]
        category = np.where(rng.random(count) < 0.5, liked, rng.integers(CATEGORIES, size=count))
        # Items of a category are those with its number as remainder; early ones are shown more often.
        item = category + CATEGORIES * (ITEMS // CATEGORIES * rng.random(count) ** 2).astype(np.int64)
        logit = -1.5 + 1.8 * (category == liked) + quality[item]
        frame = pl.DataFrame(
            {
                "user_id": user + 1,
                "item_id": item + 1,
                "cate_id": category.astype(np.int64) + 1,
                "price": price[item],
                "hour": times // 3600 % 24,
                "label": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.int64),
                "timestamp": times,
            }
        )
        frame.write_parquet(folder / f"part-{at:05}.parquet")
