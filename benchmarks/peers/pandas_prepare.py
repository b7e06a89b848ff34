"""The generated log of `benchmarks.streaming` prepared as notebooks do: pandas, a Python list per user, padded arrays.

python -m benchmarks.peers.pandas_prepare '{"folder": ..., "history": 50}'

Prints one JSON object: rows, seconds on the wall, CPU seconds. The features, histories and split are those of the
benchmark; ids are numbered by `factorize` on all rows, which no split can then be said not to know.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd


def prepare(folder: Path, *, history: int) -> dict[str, np.ndarray]:
    """Encoded arrays by name, a row per impression, histories padded to `history`."""
    log = pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))], ignore_index=True)
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    for name in ("item_id", "cate_id"):
        log[name] = pd.factorize(log[name])[0] + 2
    log["price"] = (log["price"] - log["price"].mean()) / log["price"].std()
    items, categories = [], []
    for _, rows in log.groupby("user_id", sort=False):
        item_list, cate_list = _of_user(rows, history)
        items += item_list
        categories += cate_list
    log = log.assign(hist_item_ids=items, hist_cate_ids=categories).sort_values("timestamp", kind="stable")
    padded = {name: _padded(log[name], history) for name in ("hist_item_ids", "hist_cate_ids")}
    return {**padded, **{name: log[name].to_numpy() for name in ("item_id", "cate_id", "price", "hour", "label")}}


def _of_user(rows: pd.DataFrame, history: int) -> tuple[list[list[int]], list[list[int]]]:
    """What the user had clicked before each row's time, newest `history`."""
    clicks: list[tuple[int, int, int]] = []
    items, categories = [], []
    for row in rows.itertuples(index=False):
        before = [click for click in clicks[-history - 5 :] if click[0] < row.timestamp][-history:]
        items.append([click[1] for click in before])
        categories.append([click[2] for click in before])
        if row.label:
            clicks.append((row.timestamp, row.item_id, row.cate_id))
    return items, categories


def _padded(lists: pd.Series, width: int) -> np.ndarray:
    out = np.zeros((len(lists), width), dtype=np.int64)
    for i, values in enumerate(lists):
        out[i, : len(values)] = values
    return out


def main() -> None:
    """Prepare the folder that the argument names."""
    settings = json.loads(sys.argv[1])
    started = time.monotonic()
    arrays = prepare(Path(settings["folder"]) / "log", history=settings["history"])
    rows = len(arrays["label"])
    print(json.dumps({"rows": rows, "wall_s": time.monotonic() - started, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
