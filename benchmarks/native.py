"""The native candidate half beside ONNX Runtime's, at the sizes of the public DIEN code, every path of this processor.

    python -m benchmarks.native [--repeats N] [--kinds din,dien]

Same weights, same state of the user half, in turn in one process: CPU time of the one thread that computes. `both` is
the user half and the candidate half together, as a request pays them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.score_latency import _inputs
from benchmarks.sized import HISTORY, sized_bundle
from model.bundle.folder import Bundle, read_bundle
from service.runtimes.base import Runtime
from service.runtimes.native.library import Kernel
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OnnxRuntime

COUNTS = (10, 100, 500)
TARGETS = {"din_native_over_onnx_500": [">=", 1.45], "dien_native_over_onnx_500": [">=", 1.5]}  # on AVX-512
LARGEST_DIFFERENCE = 1e-5  # as the golden rows'


def main() -> None:
    """Measure and print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="runs of each runtime per size")
    parser.add_argument("--kinds", default="din,dien", help="nets, separated by commas")
    options = parser.parse_args()
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds.split(","):
            path, _ = sized_bundle(Path(folder) / kind, kind)
            metrics |= compare(kind, read_bundle(path), repeats=options.repeats)
    print(json.dumps({"benchmark": "native", "metrics": metrics, "targets": TARGETS}))


def compare(kind: str, bundle: Bundle, *, repeats: int) -> dict[str, float]:
    """CPU milliseconds of the candidate half by runtime and count, and the median of onnx / native run by run."""
    kernel = Kernel()
    fastest = kernel.paths[0]
    runtimes: dict[str, Runtime] = {"onnx": OnnxRuntime(bundle)}
    runtimes |= {f"native-{path}": NativeRuntime(bundle, path=path) for path in (*kernel.paths, *kernel.rounding)}
    metrics: dict[str, float] = {}
    for count in COUNTS:
        request, items = _inputs(bundle, count)
        state = runtimes["onnx"].encode_user(request)
        expected = runtimes["onnx"].score(state, items)["pctr"]
        calls: dict[str, Callable[[], object]] = {}
        for name, runtime in runtimes.items():
            difference = float(np.abs(runtime.score(state, items)["pctr"] - expected).max())
            assert difference < LARGEST_DIFFERENCE, f"{kind} {name}: another net ({difference})"
            calls[name] = partial(runtime.score, state, items)
        calls["user half"] = partial(runtimes["onnx"].encode_user, request)
        times = in_turn(calls, repeats=repeats)
        show(kind, count, times)
        user, onnx, native = times["user half"], times["onnx"], times[f"native-{fastest}"]
        metrics[f"{kind}_native_ms_{count}"] = _rounded(native)
        metrics[f"{kind}_onnx_ms_{count}"] = _rounded(onnx)
        metrics[f"{kind}_native_over_onnx_{count}"] = _rounded(onnx / native)
        metrics[f"{kind}_native_over_onnx_both_{count}"] = _rounded((user + onnx) / (user + native))
    return metrics


def in_turn(calls: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, NDArray[np.float64]]:
    """CPU milliseconds of every call, one after the other, `repeats` times around."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            times[name].append((time.thread_time() - began) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def show(kind: str, count: int, times: Mapping[str, NDArray[np.float64]]) -> None:
    """One line per runtime: median, quartiles, and how many times faster than ONNX Runtime."""
    print(f"{kind}, {count} candidates, L={HISTORY}")
    for name, values in times.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        ratio = np.percentile(times["onnx"] / values, [25, 50, 75])
        faster = "" if name in ("onnx", "user half") else f", {ratio[1]:.2f}x ({ratio[0]:.2f} to {ratio[2]:.2f})"
        print(f"  {name:<20} {middle:6.2f} ms ({low:.2f} to {high:.2f}){faster}")


def _rounded(values: NDArray[np.float64]) -> float:
    return round(float(np.median(values)), 3)


if __name__ == "__main__":
    main()
