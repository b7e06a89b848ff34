"""What is monitored, under load: two serving processes on two bundles, a consumer, Redis, and their callers."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from redis import Redis

from model.bundle.distribution import distribution
from model.bundle.pointers import write_pointer
from service.embedded import EmbeddedRedis
from tests.integration.service_process import WAIT_S, ask, free_port, metric, start
from tests.online.bundle_versions import encoder_of
from tests.online.tiny_bundle import write_tiny_bundle

STREAM = "ctr:events"
CALLERS = 3
START_S = 60


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Where its metrics are."""

    service: str
    consumer: str

    def exported(self) -> str:
        """What both say, now."""
        return ask(self.service, "/metrics").text + ask(self.consumer, "/metrics").text


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """It, until the block ends."""
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis())
        consumer = _consume(stack, redis.url)
        settings = {
            "workers": 2,
            "threads": 1,
            "canary_percent": 20,
            "shadow_percent": 100,
            "feature_log": folder / "log",
        }
        patient = {"feature_log_percent": 100, "deadline_ms": 5000, "store_timeout_ms": 2000, "log_level": "error"}
        process, service = start(_bundles(folder), redis.url, **settings, **patient)
        stack.callback(process.wait, WAIT_S)
        stack.callback(process.terminate)
        _wait_until(process, lambda: metric(service, "ctr_processes") == 2 and metric(service, "ctr_ready") == 1)
        _wait_until(process, lambda: ask(consumer, "/metrics").status == 200)
        stack.enter_context(_load(service, redis.url))
        yield Watched(service=service, consumer=consumer)


def _wait_until(process: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    """Four processes start at once here, so this takes longer than for other tests."""
    until = time.monotonic() + START_S
    while True:
        with suppress(OSError):
            if condition():
                return
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


def _bundles(folder: Path) -> Path:
    """Two versions that differ, with what `ctr-model export` adds: when it was, and the scores of validation."""
    root = folder / "bundles"
    scores = distribution(np.random.default_rng(1).uniform(size=2000).astype(np.float32), split="valid")
    for version in ("v1", "v2"):
        facts = {"created": int(time.time()) - 3600, "score_distribution": scores}
        write_tiny_bundle(root, encoder_of(version), version=version, **facts)
    write_pointer(root, "stable", "v1")
    write_pointer(root, "canary", "v2")
    return root


def _consume(stack: ExitStack, store: str) -> str:
    """`ctr-service consume-events`; where it shows its metrics."""
    port = free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environ = {**clean, "CTR_STORE": store, "CTR_CONSUMER_PORT": str(port), "CTR_LOG_LEVEL": "error"}
    command = [str(Path(sys.executable).with_name("ctr-service")), "consume-events"]
    process = subprocess.Popen(command, env=environ)
    stack.callback(process.wait, WAIT_S)
    stack.callback(process.terminate)
    return f"http://127.0.0.1:{port}"


@contextmanager
def _load(service: str, store: str) -> Iterator[None]:
    """Callers, until the block ends. Their requests go through both processes."""
    ended = threading.Event()
    threads = [threading.Thread(target=_call, args=(service, store, ended), kwargs={"seed": i}) for i in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _call(service: str, store: str, ended: threading.Event, *, seed: int) -> None:
    """Scores, of which some have all the consequences that a score can have, and now and then a mistake."""
    rng = np.random.default_rng(seed)
    with httpx.Client(base_url=service, timeout=30) as client, Redis.from_url(store) as redis:
        while not ended.is_set():
            user = int(rng.integers(1, 13))  # 11 and 12 are unknown
            items = rng.integers(100, 123, size=10).tolist()  # 120 to 122 too
            answer = client.post("/score", json={"user_id": user, "candidates": {"item_id": items}}).json()
            if user % 4 == 0:
                _follow(answer, user, client, redis)
            if user == 1:
                client.post("/score", json={"user_id": user})
                client.get("/nowhere")
                redis.xadd(STREAM, {"event": "{}"})


def _follow(answer: dict[str, Any], user: int, client: httpx.Client, redis: Redis) -> None:
    """A report of what was shown and clicked, and an event on either way."""
    request_id, scores = answer["request_id"], answer["scores"]
    shown = [{"item_id": score["item_id"], "pctr": score["pctr"], "clicked": score["rank"] == 1} for score in scores]
    report = {"request_id": request_id, "bundle_version": answer["bundle_version"], "impressions": shown}
    client.post("/feedback", json=report)
    event = {"user_id": user, "item_id": scores[0]["item_id"], "time": int(time.time() * 1000)}
    client.post("/events", json={**event, "event_id": f"http-{request_id}"[:64]})
    redis.xadd(STREAM, {"event": json.dumps({**event, "event_id": f"stream-{request_id}"[:64]})})
