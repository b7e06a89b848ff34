"""One training of one system on one task, kept as a small JSON file, so that a run that was broken off goes on."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.train_peers import peer_process
from model.bundle.errors import ConfigError
from model.config import RunConfig, read_config
from model.data.log import read_log
from model.pipeline import evaluated, prepare, run_training
from model.run_folder import config_table

OURS = "ours"
# Behaviors that every system sees. The two with short histories hold 6 to 8 on average.
TASKS = {"ml100k_rating": 50, "ml1mhalf_rating": 20, "beauty_next": 20, "sports_next": 20}
_OTHER_HISTORY = 20
PEER_S = 6 * 3600.0
_EXAMPLES = Path(__file__).parents[1] / "examples"
_RECIPES = {"rating": _EXAMPLES / "rating.toml", "next": _EXAMPLES / "next_item.toml"}

Figures = dict[str, dict[str, float]]  # "valid" and "test" -> metric -> value


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training. `system` is `ours` or a peer, with `+fresh` one that gets fresh negatives too."""

    data: Path
    task: str
    system: str
    net: str
    seed: int

    @property
    def name(self) -> str:
        """For people and file names."""
        return f"{self.task}-{self.system}-{self.net}-{self.seed}"


def history_of(task: str) -> int:
    """Behaviors that every system sees of a task, also of one that is not in TASKS."""
    return TASKS.get(task, _OTHER_HISTORY)


def figures(job: Job, cache: Path) -> Figures:
    """Figures of both splits after training, from the cache if they are there. The test split is scored once.

    Raises PeerError, ConfigError.
    """
    path = cache_file(job, cache)
    if not path.exists():
        started = time.monotonic()
        found = _train_ours(job) if job.system == OURS else _train_peer(job)
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({**found, "seconds": time.monotonic() - started}) + "\n")
        partial.replace(path)
    kept = json.loads(path.read_text())
    return {split: kept[split] for split in ("valid", "test")}


def cache_file(job: Job, cache: Path) -> Path:
    """Where the figures of a training are kept; another recipe has another file. Raises ConfigError."""
    settings = config_table(our_config(job)) if job.system == OURS else {"history": history_of(job.task)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return cache / f"{job.name}-{digest}.json"


def our_config(job: Job) -> RunConfig:
    """The recipe of the task's kind, on the task's files. Raises ConfigError."""
    kind = job.task.rpartition("_")[2]
    if kind not in _RECIPES:
        raise ConfigError(file="--tasks", key="task", found=job.task, allowed="a name that ends in _rating or _next")
    recipe = read_config(_RECIPES[kind]).with_net(job.net)
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, format="task", path=Path(job.task)),
        schema=dataclasses.replace(recipe.schema, max_history=history_of(job.task)),
        train=dataclasses.replace(recipe.train, seed=job.seed),
        base=job.data,
    )


def _train_ours(job: Job) -> Figures:
    config = our_config(job)
    torch.set_num_threads(1)
    log = read_log(config.data, config.schema, base=config.base)
    run, _ = run_training(log, prepare(log, config), config)
    splits = evaluated(run, log, split="test").metrics["splits"]
    return {split: splits[split] for split in ("valid", "test")}


def _train_peer(job: Job) -> Figures:
    peer, _, fresh = job.system.partition("+")
    settings = {
        "folder": str(job.data / job.task),
        "peer": peer,
        "net": job.net,
        "seed": job.seed,
        "fresh": bool(fresh),
    }
    line = peer_process(
        "benchmarks.peers.train_main", {**settings, "history": history_of(job.task)}, threads=1, timeout_s=PEER_S
    )
    found = json.loads(line)
    return {split: found[split] for split in ("valid", "test")}
