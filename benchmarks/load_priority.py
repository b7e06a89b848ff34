"""What loading a bundle costs the event loop while every core computes, by the priority of the thread that loads.

    python -m benchmarks.load_priority BUNDLE [--rounds 4]

Two threads multiply matrices without the GIL; the loop asks to be woken every 2 ms and notes how late it is. The
priorities take turns in one process. The last line is one JSON object; times in milliseconds.
"""

import argparse
import asyncio
import json
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from service import low_priority
from service.loader import load
from service.runtimes.onnx import OnnxRuntime

NICE = (0, 10, 19)
WAKE_S = 0.002


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    stop = threading.Event()
    busy = [threading.Thread(target=_compute, args=(stop,)) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        print(json.dumps({"benchmark": "load_priority", **asyncio.run(_measure(options.bundle, options.rounds))}))
    finally:
        stop.set()
        for thread in busy:
            thread.join()


async def _measure(bundle: Path, rounds: int) -> dict[str, object]:
    work = partial(load, bundle, max_candidates=500, runtimes={"onnx": OnnxRuntime})
    late: dict[int, list[float]] = {nice: [] for nice in NICE}
    seconds: dict[int, list[float]] = {nice: [] for nice in NICE}
    for _ in range(rounds):
        for nice in NICE:
            low_priority.NICE = nice
            listening = asyncio.create_task(_note_lateness(late[nice]))
            began = time.perf_counter()
            await low_priority.in_low_priority(work)
            seconds[nice].append(time.perf_counter() - began)
            listening.cancel()
    return {f"nice_{nice}": _figures(seconds[nice], late[nice]) for nice in NICE}


def _figures(seconds: list[float], late: list[float]) -> dict[str, float]:
    p50, p99, most = np.percentile(np.array(late) * 1e3, [50, 99, 100]).round(2).tolist()
    return {"load_s": round(float(np.median(seconds)), 2), "late_p50": p50, "late_p99": p99, "late_max": most}


async def _note_lateness(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(WAKE_S)
        late.append(time.perf_counter() - began - WAKE_S)


def _compute(stop: threading.Event) -> None:
    matrix = np.ones((200, 200))
    while not stop.is_set():
        np.matmul(matrix, matrix)


if __name__ == "__main__":
    main()
