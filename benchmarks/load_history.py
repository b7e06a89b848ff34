"""How many events a second does `load-history` write, and what bounds it?

    python -m benchmarks.load_history [--events N] [--users N] [--rounds N]

A Parquet file in the order of time, as logs are, goes into an empty Redis of our own on the same machine. Beside it,
what the same machine needs for the two parts alone: reading the file without writing, and Redis taking the same
commands, packed beforehand, from a bare socket. Times of one machine that Redis shares; CPU seconds of both say what
bounds the load where each has a core of its own.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from redis import Redis

from benchmarks.raw_redis import RawRedis, packed_writes
from service.embedded import EmbeddedRedis
from service.history_file import read_histories
from service.history_loader import load_history
from service.stores.redis import RedisStore

START_S = 1_760_000_000
KEEP = 200


def main() -> None:
    """Measure in turn, print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as server:
        path = write_log(Path(folder, "log.parquet"), events=options.events, users=options.users)
        speeds: dict[str, list[float]] = {"load": [], "read_only": [], "redis_only": []}
        own_cpu, redis_cpu = [], []
        for _ in range(options.rounds):
            speeds["read_only"].append(options.events / read_s(path))
            speeds["redis_only"].append(options.events / redis_s(path, server))
            own, redis = time.process_time(), cpu_s(server.pid)
            speeds["load"].append(options.events / load_s(path, server, expected=options.events))
            own_cpu.append((time.process_time() - own) / options.events * 1e6)
            redis_cpu.append((cpu_s(server.pid) - redis) / options.events * 1e6)
    medians = {f"{name}_events_per_s": round(statistics.median(values)) for name, values in speeds.items()}
    medians |= {
        "loader_cpu_us_per_event": round(statistics.median(own_cpu), 2),
        "redis_cpu_us_per_event": round(statistics.median(redis_cpu), 2),
    }
    for name, values in speeds.items():
        print(f"{name:12} " + " ".join(f"{value:10,.0f}" for value in values))
    metrics = {"events": options.events, "users": options.users, **medians}
    targets = {"load_events_per_s": [">=", 200_000]}
    print(json.dumps({"benchmark": "load_history", "metrics": metrics, "targets": targets}))


def write_log(path: Path, *, events: int, users: int) -> Path:
    """A log in the order of time, with event ids as integers."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(users, size=events),
            "item_id": rng.integers(1, 367_983, size=events),
            "cate_id": rng.integers(1, 1_601, size=events),
            "timestamp": START_S + np.arange(events) // 100,
        }
    )
    frame.write_parquet(path)
    return path


def read_s(path: Path) -> float:
    """Seconds to read, check and group the file."""
    began = time.perf_counter()
    for _ in read_histories(path, time_unit="s"):
        pass
    return time.perf_counter() - began


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def redis_s(path: Path, server: EmbeddedRedis) -> float:
    """Seconds that Redis takes for the same writes, made beforehand."""
    writes = [
        packed
        for histories in read_histories(path, time_unit="s")
        for packed in packed_writes(histories, keep=KEEP, ttl_s=10**6)
    ]
    with Redis.from_url(server.url) as client, RawRedis(server.port) as raw:
        client.flushall()
        began = time.perf_counter()
        for packed, replies in writes:
            raw.send(packed, replies=replies)
        return time.perf_counter() - began


def load_s(path: Path, server: EmbeddedRedis, *, expected: int) -> float:
    """Seconds of the loader itself, and a check that every event arrived."""

    async def load() -> float:
        store = RedisStore.from_url(server.url, history_keep=KEEP, ttl_s=10**6)
        try:
            return (await load_history(path, store, time_unit="s")).seconds
        finally:
            await store.close()

    with Redis.from_url(server.url) as client:
        client.flushall()
        seconds = asyncio.run(load())
        keys = list(client.scan_iter("ctr:h:*", count=1000))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zcard(key)
            stored = sum(pipe.execute())
    if stored != expected:
        raise RuntimeError(f"{stored} of {expected} events arrived; more users keep histories from being cut")
    return seconds


if __name__ == "__main__":
    main()
