"""On a real GPU: the CPU's scores, a closed set of shapes, no growing memory. Skipped where there is none."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from model.bundle.encode import Tensors
from model.bundle.folder import Bundle, read_bundle
from model.bundle.records import make_behaviors
from model.publish import publish
from model.run_folder import load_run
from service.loader import load
from service.runtimes.base import FLOAT32_TOLERANCE, DeviceState
from service.runtimes.choice import choose_on_gpu
from service.runtimes.device import Device, DeviceRuntime
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torchscript import TorchScriptRuntime

pytestmark = pytest.mark.gpu

KINDS = ["base", "din", "dien"]
MOST = 2000  # candidates
GROWTH_MB = 64.0  # allowed over the shapes that were warmed: what other libraries take meanwhile

Make = Callable[[str], tuple[DeviceRuntime, Bundle]]


@pytest.fixture(params=["onnx", "torchscript"])
def make(request: pytest.FixtureRequest, trained_runs: dict[str, Path], tmp_path: Path) -> Make:
    """`make(kind)`: a loaded runtime on the GPU, with its bundle; skips where the format finds no GPU."""
    export_format = request.param
    if export_format == "onnx" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider (docs/gpu.md)")
    if export_format == "torchscript" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")

    def on_gpu(bundle: Bundle) -> DeviceRuntime:
        runtime = choose_on_gpu(bundle, device=Device("cuda"), max_candidates=MOST)
        assert isinstance(runtime, DeviceRuntime)
        return runtime

    def make_(kind: str) -> tuple[DeviceRuntime, Bundle]:
        run = load_run(trained_runs[kind])
        path = publish(run, tmp_path / kind, version="v1", code_version="test", export_format=export_format)
        began = time.perf_counter()
        runtime = load(path, max_candidates=MOST, runtimes={export_format: on_gpu}).runtime
        assert isinstance(runtime, DeviceRuntime)
        print(
            f"{kind} {export_format}: {len(runtime.limits.shapes)} shapes warm in {time.perf_counter() - began:.1f} s"
        )
        return runtime, read_bundle(path)

    return make_


def inputs(bundle: Bundle, *, lengths: list[int], count: int, seed: int) -> tuple[Tensors, Tensors]:
    """Random users with these history lengths, and as many candidates each."""
    rng, encoder, ids = np.random.default_rng(seed), bundle.encoder, bundle.encoder.catalogue.ids
    request = {
        **encoder.encode_request({}, {}, rows=len(lengths)),
        **encoder.encode_history([make_behaviors(rng.choice(ids, length)) for length in lengths]),
    }
    items = encoder.encode_items({encoder.schema.keys.item: rng.choice(ids, len(lengths) * count)})
    return request, {name: tensor.reshape(len(lengths), count, -1) for name, tensor in items.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_gives_the_cpu_s_scores(kind: str, make: Make) -> None:
    """Empty to full histories, one candidate to 2,000, one user to eight; the state never leaves the GPU."""
    runtime, bundle = make(kind)
    cpu = (OnnxRuntime if bundle.manifest.export_format == "onnx" else TorchScriptRuntime)(bundle)
    longest = bundle.schema.max_history
    for lengths, count in (([0], 1), ([longest], MOST), ([3], 500), ([longest, 1], 33), ([0, 1, 2, 5, 9], 100)):
        request, items = inputs(bundle, lengths=lengths, count=count, seed=count)
        state = runtime.encode_user(request)

        assert isinstance(state, DeviceState)
        assert state.nbytes > 0
        found = runtime.score(state, items)["pctr"]
        np.testing.assert_allclose(
            found, cpu.score(cpu.encode_user(request), items)["pctr"], rtol=0, atol=FLOAT32_TOLERANCE
        )


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_over_random_shapes(kind: str, make: Make) -> None:
    """200 requests of random shapes after the warm-up take no more memory of the GPU than the warm-up did."""
    runtime, bundle = make(kind)
    rng, before = np.random.default_rng(0), used_mb()
    for seed in range(200):
        users = int(rng.integers(1, 9))
        count = (
            int(rng.integers(1, runtime.limits.joined // users + 1)) if users > 1 else int(rng.integers(1, MOST + 1))
        )
        lengths = rng.integers(0, bundle.schema.max_history + 1, users).tolist()
        request, items = inputs(bundle, lengths=lengths, count=count, seed=seed)
        assert np.isfinite(runtime.score(runtime.encode_user(request), items)["pctr"]).all()
    grown = used_mb() - before
    print(f"{kind} {runtime.name}: {grown:.0f} MB more after 200 random shapes")

    assert grown <= GROWTH_MB


@pytest.mark.parametrize("kind", KINDS)
def test_throughput_is_told(kind: str, make: Make) -> None:
    """One thread, full histories, 500 candidates: what comes out is finite; the rate is printed, not judged."""
    runtime, bundle = make(kind)
    request, items = inputs(bundle, lengths=[bundle.schema.max_history], count=500, seed=0)
    began, calls = time.perf_counter(), 100
    scores = [runtime.score(runtime.encode_user(request), items)["pctr"] for _ in range(calls)]
    seconds = time.perf_counter() - began
    print(f"{kind} {runtime.name}: {seconds / calls * 1e3:.2f} ms a call, {500 * calls / seconds:,.0f} candidates/s")

    np.testing.assert_allclose(scores[-1], scores[0], rtol=0, atol=1e-6)


def used_mb() -> float:
    """Memory of GPU 0 that is taken, by whomever."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, check=True, capture_output=True, text=True).stdout)


def test_a_gpu_that_is_not_there_is_refused(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """The number after the last GPU: a refusal that names the setting, and no scores from the CPU."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider (docs/gpu.md)")
    path = publish(load_run(trained_runs["din"]), tmp_path, version="v1", code_version="test")
    # In a process of its own: what a failed CUDA context leaves behind is not specified.
    code = (
        "import sys; from pathlib import Path; from model.bundle.folder import read_bundle\n"
        "from service.runtimes.choice import choose_on_gpu; from service.runtimes.device import Device\n"
        "choose_on_gpu(read_bundle(Path(sys.argv[1])), device=Device('cuda', 99), max_candidates=10)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "BundleError" in done.stderr
    assert "CTR_DEVICE=cuda:99" in done.stderr
