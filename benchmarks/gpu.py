"""DIN and DIEN on a GPU beside the CPU, at the sizes of the public DIEN code, for each export format.

    python -m benchmarks.gpu [--repeats N] [--formats onnx,torchscript]

One thread calls; wall time of the user half and the candidate half together, copies included, as a request pays them.
Where a format finds no GPU it says so and measures nothing: nothing is put in the GPU's place.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.sized import CATEGORIES, HISTORY, ITEMS, sized_bundle
from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_bundle
from model.bundle.records import make_behaviors
from model.publish import Format
from service.runtimes.base import Runtime
from service.runtimes.choice import choose_on_gpu, choose_runtime, choose_torchscript
from service.runtimes.device import Device

MOST = 2000
SIZES = ((1, 1), (1, 100), (1, 500), (1, 2000), (2, 500), (4, 256), (8, 100), (8, 256))  # users, candidates of each
TOLERANCE = 1e-5
CPU = {"onnx": choose_runtime, "torchscript": choose_torchscript}


def main() -> None:
    """Measure and print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50, help="calls of each runtime per size")
    parser.add_argument("--formats", default="onnx,torchscript", help="export formats, separated by commas")
    options = parser.parse_args()
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for export_format in get_args(Format):
            if export_format in options.formats.split(","):
                for kind in ("din", "dien"):
                    path = Path(folder) / export_format / kind
                    bundle = read_bundle(sized_bundle(path, kind, export_format=export_format)[0])
                    metrics |= compare(kind, bundle, repeats=options.repeats)
    print(json.dumps({"benchmark": "gpu", "metrics": metrics, "targets": {}}))


def compare(kind: str, bundle: Bundle, *, repeats: int) -> dict[str, float]:
    """Median milliseconds of a call on the CPU and on the GPU, in turn; nothing where there is no GPU."""
    export_format = bundle.manifest.export_format
    try:
        gpu = choose_on_gpu(bundle, device=Device("cuda"), max_candidates=MOST)
    except BundleError as error:
        print(f"{kind} {export_format}: no CUDA device: not measured ({error})")
        return {}
    cpu, metrics = CPU[export_format](bundle), {}
    print(f"\n{kind} {export_format}: {cpu.name} beside {gpu.name}, L={HISTORY}, ms a call, median of {repeats}")
    for users, count in SIZES:
        request, items = inputs(bundle, users=users, count=count)
        difference = float(np.abs(_score(cpu, request, items) - _score(gpu, request, items)).max())
        assert difference < TOLERANCE, f"{kind}: the devices do not agree ({difference})"
        pairs = [[_ms(partial(_score, r, request, items)) for r in (cpu, gpu)] for _ in range(repeats)]
        on_cpu, on_gpu = (statistics.median(times) for times in zip(*pairs, strict=True))
        rate = users * count / on_gpu * 1e3
        print(
            f"{users} x {count}: CPU {on_cpu:.2f}, GPU {on_gpu:.2f}, {rate:,.0f} candidates/s, differ {difference:.0e}"
        )
        name = f"{kind}_{export_format}_{users}x{count}"
        metrics |= {f"{name}_gpu_ms": round(on_gpu, 3), f"{name}_cpu_over_gpu": round(on_cpu / on_gpu, 3)}
    return metrics


def inputs(bundle: Bundle, *, users: int, count: int) -> tuple[Tensors, Tensors]:
    """Full histories and candidates of random items."""
    rng, encoder = np.random.default_rng(users * count), bundle.encoder
    histories = [
        make_behaviors(rng.integers(1, ITEMS, HISTORY), category=rng.integers(1, CATEGORIES, HISTORY))
        for _ in range(users)
    ]
    ids = {"user_id": rng.integers(1, 1000, users)}
    request = {**encoder.encode_request(ids, {}, rows=users), **encoder.encode_history(histories)}
    columns = {"item_id": rng.integers(1, ITEMS, users * count), "cate_id": rng.integers(1, CATEGORIES, users * count)}
    items = encoder.encode_items(columns)
    return request, {name: tensor.reshape(users, count, -1) for name, tensor in items.items()}


def _score(runtime: Runtime, request: Tensors, items: Tensors) -> np.ndarray:
    return runtime.score(runtime.encode_user(request), items)["pctr"]


def _ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
