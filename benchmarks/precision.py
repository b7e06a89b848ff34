"""What bfloat16 and int8 cost in AUC and gain in time, beside float32.

    python -m benchmarks.precision --bundle BUNDLE --config TRAINING_FILE    AUC on its test split
    python -m benchmarks.precision --speed din                               CPU time at the public sizes

int8 is ONNX Runtime's dynamic quantisation of `candidate.onnx`: weights of matrix products to int8 at export, and what
they multiply to uint8 at run time. What is not a product with a constant weight stays float32.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.native import in_turn, show
from benchmarks.score_latency import _inputs
from benchmarks.sized import sized_bundle
from model.bundle.folder import Bundle, read_bundle
from model.config import read_config
from model.data.batches import EncodedSplit, encode_split
from model.data.log import read_log
from model.metrics import all_metrics
from service.runtimes.base import Runtime
from service.runtimes.native.library import Kernel
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OnnxRuntime

ROWS = 512  # of the split in one call
COUNT = 500


def main() -> None:
    """Print one table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle of a trained net")
    parser.add_argument("--config", type=Path, help="its training file, for the test split")
    parser.add_argument("--speed", choices=["din", "dien"], help="measure time instead, with random weights")
    parser.add_argument("--repeats", type=int, default=40, help="runs of each runtime")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.speed:
            path, _ = sized_bundle(Path(folder) / "sized", options.speed)
            metrics = speed(options.speed, runtimes(read_bundle(path), Path(folder)), path, repeats=options.repeats)
        else:
            bundle, config = read_bundle(options.bundle), read_config(options.config)
            test = read_log(config.data, config.schema, base=config.base).test
            metrics = losses(runtimes(bundle, Path(folder)), encode_split(test, bundle.encoder))
    print(json.dumps({"benchmark": "precision", "metrics": metrics, "targets": {}}))


def runtimes(bundle: Bundle, folder: Path) -> dict[str, Runtime]:
    """The same net in every precision that this processor has."""
    kernel = Kernel()
    native = {path: NativeRuntime(bundle, path=path) for path in (kernel.paths[0], *kernel.rounding)}
    return {"onnx": OnnxRuntime(bundle), "onnx-int8": OnnxRuntime(_int8(bundle, folder)), **native}


def losses(found: dict[str, Runtime], split: EncodedSplit) -> dict[str, float]:
    """AUC and log loss of every runtime on the split, and how far a score moves."""
    metrics: dict[str, float] = {}
    exact = _scores(found["onnx"], split)
    for name, runtime in found.items():
        pctr = _scores(runtime, split)
        figures = all_metrics(split.label, pctr, split.user)
        moved = np.abs(pctr - exact)
        metrics |= {f"{name}_auc": round(figures["auc"], 6), f"{name}_moved_max": float(moved.max())}
        print(
            f"{name:<14} AUC {figures['auc']:.6f}  GAUC {figures['gauc']:.6f}  log loss {figures['log_loss']:.6f}"
            f"  a score moves by {moved.mean():.1e} on average, {moved.max():.1e} at most"
        )
    return metrics


def speed(kind: str, found: dict[str, Runtime], path: Path, *, repeats: int) -> dict[str, float]:
    """CPU milliseconds of the candidate half for COUNT candidates, in turn."""
    request, items = _inputs(read_bundle(path), COUNT)
    state = found["onnx"].encode_user(request)
    times = in_turn({name: partial(r.score, state, items) for name, r in found.items()}, repeats=repeats)
    show(kind, COUNT, times)
    ratios = {f"{kind}_{name}_over_onnx": times["onnx"] / ms for name, ms in times.items() if name != "onnx"}
    return {name: round(float(np.median(ratio)), 3) for name, ratio in ratios.items()}


def _scores(runtime: Runtime, split: EncodedSplit) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(split), ROWS):
        tensors = split.take(np.arange(start, min(start + ROWS, len(split))))
        items = {name: tensor for name, tensor in tensors.items() if name.startswith("item_")}
        parts.append(runtime.score(runtime.encode_user(tensors), items)["pctr"][:, 0])
    return np.concatenate(parts)


def _int8(bundle: Bundle, folder: Path) -> Bundle:
    source, target = folder / "candidate.onnx", folder / "int8.onnx"
    half = bundle.manifest.candidate_half
    proto = onnx.load(bundle.path / half.file)  # with its tables
    proto.graph.ClearField("value_info")  # the quantiser turns weights round and then finds these shapes wrong
    onnx.save(proto, source)
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    manifest = replace(bundle.manifest, candidate_half=replace(half, tables={}))
    return replace(bundle, manifest=manifest, files={**bundle.files, half.file: target.read_bytes()})


if __name__ == "__main__":
    main()
