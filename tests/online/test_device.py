"""Nets on a device: IO binding gives the plain scores, states stay where they are, an absent GPU is a refusal."""

import numpy as np
import onnxruntime
import pytest

from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle
from model.bundle.records import make_behaviors
from service.config import SettingsError, read_settings
from service.loader import load
from service.runtimes.base import DeviceState, RuntimeFailure
from service.runtimes.bound import BoundHalves
from service.runtimes.choice import choose_on_gpu, choose_torchscript
from service.runtimes.device import Device, DeviceRuntime
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.shapes import Shape
from service.scoring.compute import Work, encode, score
from service.scoring.state_cache import StateCache

WITHOUT_CUDA = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime is built for CUDA"
)


class Recorded(BoundHalves):
    """IO binding on the CPU, with the shapes of its calls."""

    def __init__(self, bundle) -> None:
        super().__init__(bundle, Device())
        self.seen: list[Shape] = []
        self.failing = False

    def encode(self, request):
        self.length = request["history"].shape[1]
        return super().encode(request)

    def pctr(self, state, items):
        self.seen.append(Shape(*items["item_sparse"].shape[:2], self.length))
        if self.failing:
            raise RuntimeFailure("as asked")
        return super().pctr(state, items)


@pytest.fixture
def bundle(bundle_path):
    """The tiny bundle."""
    return read_bundle(bundle_path)


@pytest.fixture
def halves(bundle):
    """Its halves, bound to the CPU."""
    return Recorded(bundle)


@pytest.fixture
def runtime(bundle, halves):
    """The runtime around them."""
    return DeviceRuntime(halves, bundle, max_candidates=100)


def work(bundle, runtime, *, user: int, length: int, count: int) -> Work:
    """One request."""
    encoder = bundle.encoder
    history = make_behaviors(np.arange(100, 100 + length))
    request = {**encoder.encode_request({"user_id": [user]}, {}, rows=1), **encoder.encode_history([history])}
    items = encoder.encode_items({"item_id": np.arange(count) % 20 + 100})
    return Work(runtime=runtime, user=request, candidates={name: tensor[None] for name, tensor in items.items()})


def expected(bundle, one: Work) -> np.ndarray:
    """What plain ONNX Runtime gives for it."""
    plain = OnnxRuntime(bundle)
    return plain.score(plain.encode_user(one.user), one.candidates)["pctr"][0]


def test_io_binding_gives_the_plain_scores(bundle, runtime):
    """Every history length and many candidate counts, to 1e-6; of the outputs only pCTR is brought back."""
    for length in range(9):
        for count in (1, 31, 32, 33, 100):
            one = work(bundle, runtime, user=1, length=length, count=count)
            found = runtime.score(runtime.encode_user(one.user), one.candidates)

            assert found.keys() == {"pctr"}
            np.testing.assert_allclose(found["pctr"][0], expected(bundle, one), rtol=0, atol=1e-6)


def test_a_state_stays_on_the_device_and_its_size_is_known(bundle, runtime):
    """The candidate half gets the very tensors that the user half made; their bytes are counted, padding included."""
    one = work(bundle, runtime, user=1, length=3, count=4)
    state = runtime.encode_user(one.user)

    assert isinstance(state, DeviceState)
    assert all(isinstance(value, onnxruntime.OrtValue) for value in state.values())
    assert (state.users, state.padded) == (1, 1)
    assert state.nbytes == sum(value.numpy().nbytes for value in state.values()) > 0
    with pytest.raises(RuntimeFailure, match="another runtime"):
        runtime.score(OnnxRuntime(bundle).encode_user(one.user), one.candidates)


def test_joined_requests_share_one_state(bundle, runtime, halves):
    """Three requests of different sizes in one call, padded to a known shape: each gets its own scores."""
    works = [work(bundle, runtime, user=u, length=3 * u - 3, count=10 * u) for u in (1, 2, 3)]

    encode(works)
    score(works, [slice(0, one.rows) for one in works])

    assert halves.seen == [Shape(4, 32, 8)]
    assert works[0].state is works[2].state
    for one in works:
        np.testing.assert_allclose(one.pctr, expected(bundle, one), rtol=0, atol=1e-6)


def test_after_a_joined_failure_each_request_gets_a_state_of_its_own(bundle, runtime, halves):
    """The shared state cannot be cut, so a request that is run again alone is encoded again."""
    works = [work(bundle, runtime, user=u, length=u, count=5) for u in (1, 2)]
    encode(works)
    halves.failing = True
    with pytest.raises(RuntimeFailure):
        score(works, [slice(0, 5), slice(0, 5)])
    halves.failing = False

    for one in works:
        score([one], [slice(0, 5)])
        np.testing.assert_allclose(one.pctr, expected(bundle, one), rtol=0, atol=1e-6)
    assert works[0].state is not works[1].state


def test_the_cache_keeps_one_user_s_state_and_no_shared_one(bundle, runtime):
    """A kept state counts with its memory on the device; one of several users would score one as all."""
    works = [work(bundle, runtime, user=u, length=u, count=5) for u in (1, 2)]
    encode(works[:1])
    alone = works[0].state
    cache = StateCache(2 * alone.nbytes - 1)
    for user in ("a", "b"):
        cache.put(user, alone)

    assert cache.get("a") is None  # there is room for one
    assert cache.get("b") is alone
    encode(works)
    cache.put("c", works[0].state)
    assert cache.get("c") is None


def test_every_shape_is_warm_before_ready(bundle_path, bundle):
    """Loading runs exactly the shapes of the limits, and requests bring no other."""
    made: list[Recorded] = []

    def on_device(read):
        made.append(Recorded(read))
        return DeviceRuntime(made[0], read, max_candidates=100)

    runtime = load(bundle_path, max_candidates=100, runtimes={"onnx": on_device}).runtime
    warm = set(runtime.limits.shapes)

    assert warm <= set(made[0].seen) <= warm | {Shape(8, 32, 8)}  # of the golden rows
    made[0].seen.clear()
    for length in range(9):
        for count in (1, 40, 100):
            one = work(bundle, runtime, user=1, length=length, count=count)
            encode([one])
            score([one], [slice(0, count)])
    assert set(made[0].seen) <= warm


@pytest.mark.anyio
async def test_requests_are_scored_on_the_device(serve, expected_pctr):
    """POST /score with IO binding behind it, twice: the second time from the kept state."""
    runtimes = {"onnx": lambda read: DeviceRuntime(Recorded(read), read, max_candidates=100)}
    items = [100, 105, 119]
    wanted = expected_pctr({"item_id": items}, user={"user_id": [3]})

    async with serve(runtimes=runtimes) as client:
        for _ in range(2):
            answer = await client.post("/score", json={"user_id": 3, "candidates": {"item_id": items}})

            found = {scored["item_id"]: scored["pctr"] for scored in answer.json()["scores"]}
            np.testing.assert_allclose([found[item] for item in items], wanted, atol=1e-6)


@WITHOUT_CUDA
def test_an_absent_gpu_is_refused_by_name(bundle_path, bundle):
    """The message names the setting, what there is, and what to install; nothing runs on the CPU instead."""
    expected_why = r"CTR_DEVICE=cuda:1 was asked for: onnxruntime has .*CPUExecutionProvider.*onnxruntime-gpu"
    with pytest.raises(BundleError, match=expected_why):
        BoundHalves(bundle, Device("cuda", 1))
    with pytest.raises(BundleError, match=expected_why):
        load(
            bundle_path,
            max_candidates=10,
            runtimes={"onnx": lambda read: choose_on_gpu(read, device=Device("cuda", 1), max_candidates=10)},
        )


@WITHOUT_CUDA
@pytest.mark.anyio
async def test_a_service_without_its_gpu_is_not_ready_and_says_why(serve):
    """The service lives, refuses requests, and /readyz has the reason."""
    async with serve(runtimes={}, device="cuda") as client:  # those that the settings make
        ready, scored = await client.get("/readyz"), await client.post("/score", json={"user_id": 3})
        alive = await client.get("/livez")

    assert (ready.status_code, alive.status_code) == (503, 200)
    assert "CTR_DEVICE=cuda:0 was asked for" in ready.text
    assert scored.status_code in {422, 503}


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"CTR_DEVICE": "tpu"}, "CTR_DEVICE"),
        ({"CTR_DEVICE": "cuda:-1"}, "CTR_DEVICE"),
        ({"CTR_DEVICE": "cuda", "CTR_RUNTIME": "native"}, "are the CPU's, see CTR_DEVICE"),
        ({"CTR_DEVICE": "cuda", "CTR_PRECISION": "bfloat16"}, "are the CPU's, see CTR_DEVICE"),
    ],
)
def test_a_device_that_cannot_be_meant_stops_the_start(environ, why):
    """A wrong name, and a runtime that no GPU has."""
    with pytest.raises(SettingsError, match=why):
        read_settings(environ)


def test_without_torch_a_torchscript_bundle_is_refused(bundle, monkeypatch):
    """The message names the extra. Patched, because torch is installed wherever these tests run."""
    monkeypatch.setitem(__import__("sys").modules, "service.runtimes.torchscript", None)

    with pytest.raises(BundleError, match="needs torch, which the extra `torchscript` installs"):
        choose_torchscript(bundle)
