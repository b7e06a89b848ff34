"""`ctr-service consume-events` as a process: its end, its metrics, and what it refuses to start with."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.integration.service_process import WAIT_S, free_port, wait_until

STREAM = "ctr:events"
NOW = int(time.time() * 1000)


@contextmanager
def consumer(store: str, **settings: object) -> Iterator["subprocess.Popen[str]"]:
    """The command, killed at the end of the block if it still runs."""
    chosen = {"store": store, "events_pause_ms": 50, "events_consumer": "one", **settings}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environ = {**clean, **{f"CTR_{name.upper()}": str(value) for name, value in chosen.items()}}
    command = [str(Path(sys.executable).with_name("ctr-service")), "consume-events"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def send(client: Redis, count: int) -> None:
    """Events of ten users."""
    with client.pipeline(transaction=False) as pipe:
        for i in range(count):
            event = {"user_id": i % 10, "item_id": i, "time": NOW, "event_id": f"{count}-{i}"}
            pipe.xadd(STREAM, {"event": json.dumps(event)})
        pipe.execute()


def stored(client: Redis) -> int:
    """Behaviors of those users."""
    return sum(client.zcard(f"ctr:h:{user}") for user in range(10))


def test_sigterm_loses_nothing_and_leaves_nothing_in_hand(redis_url):
    """In the middle of many entries: what was read is written and acknowledged, exit code 0; the rest stays unread."""
    with Redis.from_url(redis_url) as client, consumer(redis_url, events_batch=50, history_keep=10_000) as process:
        send(client, 5_000)
        wait_until(lambda: stored(client) > 0)
        process.terminate()
        code = process.wait(WAIT_S)
        (group,) = client.xinfo_groups(STREAM)
        written = stored(client)

    assert (code, group["pending"]) == (0, 0)
    assert group["entries-read"] == written
    assert written + group["lag"] == 5_000


def test_metrics_are_on_their_port(redis_url):
    """Counts and lag, beside those of the process; nobody needs a bundle for it."""
    port = free_port()
    with Redis.from_url(redis_url) as client, consumer(redis_url, consumer_port=port):
        send(client, 20)
        wait_until(lambda: stored(client) == 20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
            text = answer.read().decode()

    assert 'ctr_events_total{outcome="accepted"} 20.0' in text
    assert "\nctr_events_lag " in text
    assert "\nprocess_resident_memory_bytes " in text


@pytest.mark.parametrize(
    ("store", "settings", "code", "message"),
    [
        ("memory://", {}, 2, "CTR_STORE: memory:// has no streams"),
        ("redis://:wrong@{place}/0", {}, 2, "CTR_STORE: "),
        ("redis://{place}/0", {"consumer_port": "{taken}"}, 3, "CTR_HOST, CTR_CONSUMER_PORT: "),
        ("redis://{place}/0", {"events_batch": 0}, 2, "CTR_EVENTS_BATCH: "),
    ],
)
def test_what_waiting_will_not_help_ends_the_command(redis_url, store, settings, code, message):
    """One line on standard error, without the password, and nothing is read."""
    place = redis_url.removeprefix("redis://").removesuffix("/0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        chosen = {name: str(value).format(taken=taken) for name, value in settings.items()}
        with consumer(store.format(place=place), **chosen) as process:
            _, told = process.communicate(timeout=WAIT_S)

    assert process.returncode == code
    assert told.startswith(message)
    assert "wrong@" not in told


def test_a_redis_that_is_not_there_yet_is_waited_for(own_redis):
    """The consumer may start before Redis does."""
    own_redis.stop()
    with consumer(own_redis.url) as process:
        assert "consuming" in process.stdout.readline()
        own_redis.start()
        with Redis.from_url(own_redis.url) as client:
            send(client, 10)
            wait_until(lambda: stored(client) == 10)
