"""The last and longest step of preparation on a Ray cluster: partitions encoded side by side by Ray Data.

Needs the extra `ray`, and a folder that every node sees. Reading the log and counting its ids stay in one process.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle.encode import Encoder
from model.data.division import SPLITS
from model.data.out_of_core import Preparation
from model.data.shards import INDEX, ShardWriter

_SHARD_ROWS = 1 << 15


def encode_on_ray(work: Preparation, encoder: Encoder, out: Path) -> None:
    """`Preparation.encode` by as many tasks as the cluster has CPUs. A shard then holds users of one task."""
    import ray  # noqa: PLC0415  # the extra `ray`
    import ray.data  # noqa: PLC0415

    def side_by_side(task: Callable[[int], int], tasks: int) -> None:
        def one(row: dict[str, Any]) -> dict[str, Any]:  # Any: a row of Ray Data
            return {"rows": task(int(row["id"]))}

        ray.data.range(tasks, override_num_blocks=tasks).map(one, num_cpus=1).take_all()

    encode_divided(work, encoder, out, tasks=int(ray.cluster_resources().get("CPU", 1)), run=side_by_side)


def encode_divided(
    work: Preparation, encoder: Encoder, out: Path, *, tasks: int, run: Callable[[Callable[[int], int], int], object]
) -> None:
    """Cut the work into at most so many tasks; `run` does each number's once or more, wherever `out` is seen."""
    divided = work.divided(tasks)
    places = [out / f".task-{task:04}" for task in range(len(divided))]

    def encode(task: int) -> int:
        return encode_here(divided[task], encoder, places[task], seed=task, tasks=len(divided))

    try:
        run(encode, len(divided))
        for split in SPLITS:
            _join([place / split for place in places], out / split)
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def encode_here(work: Preparation, encoder: Encoder, place: Path, *, seed: int, tasks: int) -> int:
    """Encode the rows of one of `tasks` into shards of its own below `place`; how many rows it had."""
    shutil.rmtree(place, ignore_errors=True)  # of a task that was lost and is done again
    rows, writers = 0, {}
    for at, encoded, activity in work.encoded(encoder):
        if at not in writers:
            rng = np.random.default_rng([seed, at])
            # By the rows of all pieces, not of this one: a reader holds a shard at least, however large.
            shards = -(-work.counts[SPLITS[at]].rows // (tasks * _SHARD_ROWS))
            writers[at] = ShardWriter(place / SPLITS[at], shards=shards, rng=rng)
        writers[at].append(encoded, activity)
        rows += len(encoded)
    for writer in writers.values():
        writer.close()
    return rows


def _join(folders: list[Path], out: Path) -> None:
    """The shards of several writers as those of one."""
    index: dict[str, list[Any]] = {"rows": [], "behaviors": [], "digests": []}  # Any: JSON
    out.mkdir(parents=True)
    for folder in (folder for folder in folders if folder.exists()):
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for shard, rows in enumerate(told["rows"]):
            if rows:
                (folder / f"{shard:05}").rename(out / f"{len(index['rows']):05}")
                for name, values in index.items():
                    values.append(told[name][shard])
    (out / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")
