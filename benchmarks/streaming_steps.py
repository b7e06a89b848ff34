"""One step of `benchmarks.streaming` in a process of its own, whose peak memory is then the step's.

    python -m benchmarks.streaming_steps '{"step": "prepare", "folder": ..., "memory_mb": ...}'

Prints one JSON object: rows, seconds on the wall, CPU seconds, peak. Started by torchrun, each process prints its own.
"""

import itertools
import json
import resource
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.streaming_public import FORMS
from model.checkpoint import Checkpoints
from model.config import RunConfig, config_from_table
from model.data.lanes import Lanes
from model.data.log import read_log
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import read_stream
from model.data.reading import Reading
from model.data.rows import Drawn
from model.data.sharded_log import ShardedLog
from model.data.sharded_split import ShardedSplit
from model.log_facts import AnyLog
from model.pipeline import Prepared, follow_training, prepare, run_training
from model.prepare_command import read_any
from model.ranks import current_ranks, joined
from model.run_folder import save_run

_NET = """
[net]
kind = "din"
attention = [16]
head = [32]
[train]
epochs = 1
batch_size = 4096
"""


class Skimmed(ShardedSplit):
    """A split of which an epoch trains on the first batches and reads the others as if it did."""

    def __init__(self, split: ShardedSplit, *, batches: int, size: int) -> None:
        window_rows = -(-split.window * int(split.shards.rows.max()) // split.lanes.count)
        super().__init__(split.shards, window_rows=window_rows, lanes=split.lanes)
        self._batches, self._size, self.seconds = batches, size, 0.0

    def __len__(self) -> int:
        """Rows that are trained on, at least: batches of a window are of one size, to a row."""
        sizes = [self.lanes.sizes(int(self.shards.rows[w].sum()), self._size).sum(0).min() for w in self._windows]
        return self._batches * int(min(sizes))

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Drawn]:
        """The batches that are trained on; those after them are taken and dropped."""
        every = super().order(batch_size=batch_size, rng=rng, bucket=bucket)
        yield from itertools.islice(every, self._batches)
        started = time.monotonic()
        for drawn in every:
            self.take(drawn.rows)
        self.seconds = time.monotonic() - started


Settings = Mapping[str, Any]  # JSON
Said = dict[str, float]


def config(settings: Settings, data: Mapping[str, object]) -> RunConfig:
    """A narrow DIN on the generated log."""
    schema = tomllib.loads(FORMS[settings["log"]].schema)
    table = {"name": "streaming", "data": data, **schema, **tomllib.loads(_NET)}
    return config_from_table(table, file="benchmark", base=Path(settings["folder"]))


def _import(settings: Settings) -> Said:
    """Nothing: what the packages themselves take."""
    return {"rows": 0}


def _generate(settings: Settings) -> Said:
    FORMS[settings["log"]].generate(Path(settings["folder"]) / "log", settings["rows"])
    return {"rows": settings["rows"]}


def _prepare(settings: Settings) -> Said:
    chosen = config(settings, _raw(settings))
    data, schema = chosen.data, chosen.schema
    stream = read_stream(data, schema, base=chosen.base, reading=Reading())
    plan = Plan(valid_fraction=data.valid_fraction, test_fraction=data.test_fraction, memory_mb=data.memory_mb)
    summary = prepare_shards(stream, schema, plan=plan, out=chosen.base / "shards")
    return {"rows": sum(split["rows"] for split in summary.values())}


def _train(settings: Settings) -> Said:
    """A whole epoch is read; of more than `trained` rows only so many are trained on, if that is not 0."""
    chosen = _sharded(settings)
    log = read_any(chosen)[0]
    prepared = prepare(log, chosen)
    batches = settings["trained"] // chosen.train.batch_size
    if isinstance(prepared.train, ShardedSplit) and 0 < batches < prepared.train.steps(chosen.train.batch_size):
        skimmed = Skimmed(prepared.train, batches=batches, size=chosen.train.batch_size)
        return {**_trained(log, chosen, replace(prepared, train=skimmed)), "read_s": skimmed.seconds}
    return _trained(log, chosen, prepared)


def _read(settings: Settings) -> Said:
    """An epoch as one process reads it that has the lanes `mine`, from the first to before the second, of `lanes`."""
    log = read_any(_sharded(settings))[0]
    assert isinstance(log, ShardedLog)
    split = log.split("train", lanes=Lanes(settings["lanes"], range(*settings["mine"])))
    before, cpu_s, rows = _bytes_read(), time.process_time(), 0
    for drawn in split.order(batch_size=4096, rng=np.random.default_rng(0), bucket=False):
        rows += len(split.take(drawn.rows)["label"])
    read_mb = (_bytes_read() - before) / (1 << 20)
    return {"taken": rows, "read_mb": read_mb, "read_cpu_s": time.process_time() - cpu_s}


def _bytes_read() -> int:
    """By this process, from files and from the cache of files."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["rchar"])


def _sharded(settings: Settings) -> RunConfig:
    return config(settings, {"format": "shards", "path": "shards", "memory_mb": settings["memory_mb"]})


def _in_memory(settings: Settings) -> Said:
    """The same log and net without shards."""
    chosen = config(settings, _raw(settings))
    log = read_log(chosen.data, chosen.schema, base=chosen.base)
    return _trained(log, chosen, prepare(log, chosen))


def _trained(log: AnyLog, chosen: RunConfig, prepared: Prepared) -> Said:
    started, before = time.monotonic(), time.process_time()
    if not current_ranks().first:
        follow_training(prepared, chosen, checkpoints=Checkpoints(chosen.base, identity={}, resume=False))
        return {"rows": len(prepared.train), "train_cpu_s": time.process_time() - before}
    run, training = run_training(log, prepared, chosen)
    seconds, cpu_s = time.monotonic() - started, time.process_time() - before
    save_run(chosen.base / "run", run)
    return {"rows": len(prepared.train), "train_s": seconds, "train_cpu_s": cpu_s, "auc": training.best_auc}


def _raw(settings: Settings) -> dict[str, object]:
    fractions = {"valid_fraction": settings["evaluated"], "test_fraction": settings["evaluated"]}
    return {"format": FORMS[settings["log"]].format, "path": "log", "memory_mb": settings["memory_mb"], **fractions}


STEPS: Mapping[str, Callable[[Settings], Said]] = {
    "import": _import,
    "generate": _generate,
    "prepare": _prepare,
    "train": _train,
    "read": _read,
    "in_memory": _in_memory,
}


def main() -> None:
    """Take the step that the argument names."""
    settings = json.loads(sys.argv[1])
    started = time.monotonic()
    with joined("cpu"):
        said = STEPS[settings["step"]](settings)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = {"wall_s": time.monotonic() - started, "cpu_s": time.process_time(), "peak_mb": peak_mb}
    print(json.dumps({**said, **cost}), flush=True)


if __name__ == "__main__":
    main()
