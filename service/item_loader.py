"""Features of items from a file into Redis, for items that are newer than the bundle.

file --rows--> {item id: {feature: value}} --a thousand at a time--> ctr:i:{item_id}
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from service.stores.items import RedisItems

ITEMS_PER_WRITE = 1000
WRITE_TIMEOUT_S = 30.0


async def load_items(
    path: Path,
    items: RedisItems,
    *,
    key: str,
    ttl_s: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write every row's features under the id in column `key`, and return how many rows there were.

    A later row of an item replaces an earlier one; what is null is not known. Raises ConfigError for a file that cannot
    be read or a column of ids that are none, StoreError if the store fails: then part of the file is there, and loading
    it again is right.
    """
    frame = _read(path)
    ids = _ids(frame, path, key)
    features = frame.drop(key).to_dicts()
    for start in range(0, len(ids), ITEMS_PER_WRITE):
        part = slice(start, start + ITEMS_PER_WRITE)
        rows = zip(ids[part], features[part], strict=True)
        known = {item: {name: value for name, value in row.items() if value is not None} for item, row in rows}
        await items.write_items(known, timeout_s=WRITE_TIMEOUT_S, ttl_s=ttl_s)
        on_progress(min(part.stop, len(ids)), len(ids))
    return len(ids)


def _read(path: Path) -> pl.DataFrame:
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": pl.read_csv,
        ".jsonl": pl.read_ndjson,
    }
    if path.suffix not in readers:
        allowed = ", ".join(readers)
        raise ConfigError(file=str(path), key="path", found=path.suffix, allowed=allowed)
    try:
        return readers[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(file=str(path), key="content", found=reason, allowed="readable rows") from error


def _ids(frame: pl.DataFrame, path: Path, key: str) -> list[int]:
    if key not in frame.columns:
        allowed = f"columns with {key!r} among them"
        raise ConfigError(file=str(path), key="columns", found=frame.columns, allowed=allowed)
    ids = frame[key]
    if not ids.dtype.is_integer() or ids.null_count() or not ids.is_between(0, 2**63 - 1).all():
        found = f"{ids.dtype}, {ids.null_count()} missing, least {ids.min()!r}"
        raise ConfigError(file=str(path), key=f"column {key}", found=found, allowed="integers from 0 to 2^63 - 1")
    return ids.to_list()
