"""How a history lies in Redis: one sorted set per user, a list, or a packed string.

    python -m benchmarks.layout [--users N]

A Redis of its own. Per layout and length: memory per user, time of one read of the newest 100 behaviors (decoded, over
one connection), and behaviors written per second, in pipelines of one event per command and in bulk. Layouts take
turns, so that a noisy machine is noisy to all. The last line of the output is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from redis import Redis

from model.bundle.records import BEHAVIOR, Behaviors, from_members, make_behaviors, to_members
from service.embedded import EmbeddedRedis

LENGTHS = (100, 200)
READ = 100  # newest behaviors
KEEP = 200
TTL_S = 86_400
READS, ROUNDS = 400, 5
PIPELINE = 500  # commands sent at once
WIDTH = BEHAVIOR.itemsize
FIGURES = ("bytes_per_user", "read_p50_ms", "read_p99_ms", "events_per_s", "bulk_per_s")


class SortedSet:
    """Score is the time; a behavior that is there already changes nothing, and a late one falls into its place."""

    def __init__(self, name: str, *, compact: int) -> None:
        """Redis keeps up to `compact` members in one piece (zset-max-listpack-entries, by default 128)."""
        self.name = name
        self.compact = compact

    def bulk(self, pipe: Any, key: str, behaviors: Behaviors) -> None:  # noqa: ANN401  # redis-py's pipelines
        """Append them at once."""
        pipe.zadd(key, dict(zip(to_members(behaviors), behaviors["time"].tolist(), strict=True)))
        pipe.zremrangebyrank(key, 0, -KEEP - 1)
        pipe.expire(key, TTL_S)

    def read(self, client: Redis, key: str) -> Behaviors:
        """The newest, oldest first."""
        return from_members(client.zrange(key, 0, READ - 1, desc=True)[::-1])


class List:
    """Newest last; the caller has to know that a behavior is new and not late."""

    name = "list"

    def bulk(self, pipe: Any, key: str, behaviors: Behaviors) -> None:  # noqa: ANN401  # redis-py's pipelines
        """Append them at once."""
        pipe.rpush(key, *to_members(behaviors))
        pipe.ltrim(key, -KEEP, -1)
        pipe.expire(key, TTL_S)

    def read(self, client: Redis, key: str) -> Behaviors:
        """The newest, oldest first."""
        return from_members(client.lrange(key, -READ, -1))


class PackedString:
    """Records one after another; as with a list, and nothing trims it but a rewrite."""

    name = "packed string"

    def bulk(self, pipe: Any, key: str, behaviors: Behaviors) -> None:  # noqa: ANN401  # redis-py's pipelines
        """Append them at once."""
        pipe.append(key, behaviors.tobytes())
        pipe.expire(key, TTL_S)

    def read(self, client: Redis, key: str) -> Behaviors:
        """The newest, oldest first."""
        return np.frombuffer(client.getrange(key, -READ * WIDTH, -1), dtype=BEHAVIOR)


LAYOUTS = (
    SortedSet("sorted set", compact=128),
    SortedSet("sorted set, compact up to 256", compact=256),
    List(),
    PackedString(),
)
Layout = SortedSet | List | PackedString


def histories(users: int, length: int) -> list[Behaviors]:
    """Random items at rising times, as a log has them."""
    rng = np.random.default_rng(length)
    start = 1_700_000_000_000
    return [
        make_behaviors(
            rng.integers(1, 400_000, length),
            category=rng.integers(1, 1_600, length),
            time=start + np.cumsum(rng.integers(1, 10_000_000, length)),
            event=rng.integers(0, 2**63, length).astype(np.uint64),
        )
        for _ in range(users)
    ]


def write(client: Redis, layout: Layout, rows: Sequence[Behaviors], *, at_once: bool) -> float:
    """Write everything; behaviors per second. `at_once`: a user's whole history in one command, else one event."""
    began = time.perf_counter()
    pipe, held = client.pipeline(transaction=False), 0
    for step in range(1 if at_once else len(rows[0])):
        for user, behaviors in enumerate(rows):
            layout.bulk(pipe, f"u{user}", behaviors if at_once else behaviors[step : step + 1])
            held += 1
            if held == PIPELINE:
                pipe.execute()
                held = 0
    pipe.execute()
    return sum(map(len, rows)) / (time.perf_counter() - began)


def memory(client: Redis, users: int) -> float:
    """Bytes per user as Redis counts them, the key and its time to live included."""
    sample = range(0, users, max(1, users // 200))
    return float(np.mean([client.memory_usage(f"u{user}", samples=0) for user in sample]))


def reads(client: Redis, read: Callable[[Redis, str], Behaviors], users: int) -> list[float]:
    """Seconds of each of some reads."""
    taken = []
    for i in range(READS):
        began = time.perf_counter()
        found = read(client, f"u{i * 7919 % users}")
        taken.append(time.perf_counter() - began)
        if len(found) != READ:
            raise RuntimeError(f"{len(found)} behaviors instead of {READ}")
    return taken


def measure(users: int) -> list[dict[str, object]]:
    """A row per layout and length."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
        for _ in range(ROUNDS):
            for length in LENGTHS:
                rows = histories(users, length)
                for layout in LAYOUTS:
                    figures = found.setdefault((layout.name, length), {})
                    client.config_set("zset-max-listpack-entries", getattr(layout, "compact", 128))
                    for name, at_once in (("events_per_s", False), ("bulk_per_s", True)):
                        client.flushall()
                        figures.setdefault(name, []).append(write(client, layout, rows, at_once=at_once))
                    figures.setdefault("bytes_per_user", []).append(memory(client, users))
                    figures.setdefault("read_s", []).extend(reads(client, layout.read, users))
    return [{"layout": name, "length": length, **_summary(figures)} for (name, length), figures in found.items()]


def _summary(figures: dict[str, list[float]]) -> dict[str, float]:
    p50, p99 = np.percentile(figures["read_s"], [50, 99]) * 1e3
    rates = {name: round(float(np.median(figures[name]))) for name in ("events_per_s", "bulk_per_s", "bytes_per_user")}
    return {**rates, "read_p50_ms": round(p50, 3), "read_p99_ms": round(p99, 3)}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100)
    options = parser.parse_args()
    rows = measure(options.users)
    print("| layout | L | bytes per user | read p50 ms | read p99 ms | events/s, one a command | events/s, bulk |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("|", " | ".join(str(row[key]) for key in ("layout", "length", *FIGURES)), "|")
    metrics = {
        f"{str(row['layout']).replace(',', '').replace(' ', '_')}_{row['length']}_{key}": row[key]
        for row in rows
        for key in FIGURES
    }
    print(json.dumps({"metrics": metrics}))


if __name__ == "__main__":
    main()
