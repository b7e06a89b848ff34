"""Does `ctr-service consume-events` lose or double anything when it is killed again and again?

    python -m benchmarks.consumer_kills [--events N] [--kills N] [--seed N]

A producer writes events to a Redis Stream, 5 % of them twice and 5 % out of order. The consumer is killed (SIGKILL) at
random points: while it starts, while it waits, with entries in hand. Then one consumer finishes, is asked to stop, and
every sorted set is compared, members and scores, with what the events say.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.event_flow import Flow
from service.embedded import EmbeddedRedis

STREAM, GROUP = "ctr:events", "ctr"
NAMES = ("first", "second")  # a life takes one of them, so that entries are claimed as well as found again
LONGEST_LIFE_S = 0.4  # after it began to consume
EARLY = 0.1  # share of kills while the process starts
DONE_S = 900.0
XADDS = 50  # per write of the producer
SETTINGS = {"EVENTS_BATCH": 100, "EVENTS_PAUSE_MS": 50, "EVENTS_CLAIM_S": 1, "HISTORY_TTL_S": 10**6}


@dataclass
class Kills:
    """What was done to the consumer, and what came of it."""

    killed: int = 0
    starting: int = 0
    with_entries: int = 0  # kills that left entries unacknowledged
    left_entries: int = 0  # of all those kills


def main() -> None:
    """Run, print the figures, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    flow = Flow(events=options.events, users=max(1, options.events // 200), keep=100, seed=options.seed)
    figures = run(flow, kills=options.kills)
    targets = {name: ["<=", 0] for name in ("wrong_histories", "wrong_behaviors", "dead", "exit_code")}
    print(json.dumps({"benchmark": "consumer_kills", "metrics": figures, "targets": targets}))


def run(flow: Flow, *, kills: int) -> dict[str, float]:
    """The figures of one run, with a Redis of its own."""
    bodies = flow.bodies()
    began = time.monotonic()
    with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
        done = threading.Event()
        goal = [0]  # events that the producer may have written by now: the flow lasts as long as the kills
        producer = threading.Thread(target=_produce, args=(server.url, bodies, goal, done))
        producer.start()
        try:
            told, code = _lives(server.url, flow, client, kills=kills, goal=goal)
        finally:
            done.set()
            producer.join()
        wrong, behaviors = _compare(client, flow, bodies)
        dead = int(client.xlen(f"{STREAM}:dead"))
    return {
        "events": len(bodies),
        "kills": told.killed,
        "kills_while_starting": told.starting,
        "kills_with_entries_in_hand": told.with_entries,
        "entries_left_by_kills": told.left_entries,
        "wrong_histories": wrong,
        "wrong_behaviors": behaviors,
        "dead": dead,
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
    }


def _produce(url: str, bodies: list[bytes], goal: list[int], done: threading.Event) -> None:
    written = 0
    with Redis.from_url(url) as client:
        while written < len(bodies) and not done.is_set():
            chunk = bodies[written : min(goal[0], written + XADDS)]
            if not chunk:
                time.sleep(0.01)
                continue
            with client.pipeline(transaction=False) as pipe:
                for body in chunk:
                    pipe.xadd(STREAM, {"event": body})
                pipe.execute()
            written += len(chunk)
            time.sleep(0.002)


def _lives(url: str, flow: Flow, client: "Redis[bytes]", *, kills: int, goal: list[int]) -> tuple[Kills, int]:
    """Kill one consumer after the other; then let one finish. Returns its exit code too."""
    rng = random.Random(flow.seed)
    told = Kills()
    for life in range(kills):
        goal[0] = flow.events * (life + 1) // (kills + 1)
        early = rng.random() < EARLY
        with _consumer(url, flow, NAMES[rng.randrange(2)]) as process:
            if not early:
                _until_it_consumes(process)
            time.sleep(rng.uniform(0, LONGEST_LIFE_S))
        told.killed += 1
        told.starting += early
        left = _pending(client)
        told.with_entries += left > 0
        told.left_entries += left
    goal[0] = flow.events
    with _consumer(url, flow, NAMES[0]) as process:
        _until_all_is_done(client, flow, process)
        process.terminate()
        return told, process.wait(timeout=30)


@contextmanager
def _consumer(url: str, flow: Flow, name: str) -> "Iterator[subprocess.Popen[bytes]]":
    """The real command, killed at the end of the block if it still runs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    own = {"STORE": url, "HISTORY_KEEP": flow.keep, "EVENTS_CONSUMER": name, **SETTINGS}
    environ = {**inherited, **{f"CTR_{key}": str(value) for key, value in own.items()}}
    command = [Path(sys.executable).with_name("ctr-service"), "consume-events"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _until_it_consumes(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    if b"consuming" not in (line := process.stdout.readline()):
        raise RuntimeError(f"the consumer did not start: {line!r}, exit code {process.poll()}")


def _until_all_is_done(client: "Redis[bytes]", flow: Flow, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + DONE_S
    while time.monotonic() < until and process.poll() is None:
        (group,) = _groups(client) or [{}]
        if client.xlen(STREAM) == flow.events and group.get("lag") == 0 and group["pending"] == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"not done after {DONE_S:.0f} s, exit code {process.poll()}")


def _pending(client: "Redis[bytes]") -> int:
    return sum(int(group["pending"]) for group in _groups(client))


def _groups(client: "Redis[bytes]") -> list[dict[str, Any]]:
    """`Any`: as redis-py parses XINFO GROUPS. Empty while there is no stream."""
    return client.xinfo_groups(STREAM) if client.exists(STREAM) else []


def _compare(client: "Redis[bytes]", flow: Flow, bodies: list[bytes]) -> tuple[int, int]:
    """Users whose sorted set is not what it must be, and behaviors that are missing or too many."""
    wrong = behaviors = 0
    expected = flow.histories(bodies)
    stored = {key.decode().removeprefix("ctr:h:") for key in client.scan_iter("ctr:h:*", count=1000)}
    for user in expected.keys() | stored:
        found = client.zrange(f"ctr:h:{user}", 0, -1, withscores=True)
        if found != expected.get(user, []):
            wrong += 1
            behaviors += len(set(found) ^ set(expected.get(user, [])))
    return wrong, behaviors


if __name__ == "__main__":
    main()
