"""The closed set of shapes: small, complete for whatever the queue hands out, and padding that moves no score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle.folder import read_bundle
from model.bundle.records import make_behaviors
from service.runtimes.device import Device, DeviceRuntime, device_limits
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.shapes import Buckets, Shape, make_buckets, padded
from service.scoring.batching import BatchQueue

sizes = st.builds(make_buckets, max_candidates=st.integers(1, 5000), max_history=st.integers(1, 500))


def test_the_sizes_of_the_defaults():
    """2,000 candidates and 100 behaviors: 4, 7 and 3 sizes, and 72 shapes in all."""
    buckets = make_buckets(max_candidates=2000, max_history=100)

    assert buckets == Buckets(users=(1, 2, 4, 8), candidates=(32, 64, 128, 256, 512, 1024, 2000), lengths=(25, 50, 100))
    assert len(buckets.shapes()) == 72


@pytest.mark.parametrize(
    ("max_candidates", "max_history", "candidates", "lengths"),
    [(1, 1, (1,), (1,)), (32, 2, (32,), (1, 2)), (33, 8, (32, 33), (2, 4, 8)), (100_000, 7, None, (2, 4, 7))],
)
def test_sizes_end_at_the_limits(max_candidates, max_history, candidates, lengths):
    """The largest size is the limit itself, or 2,048 candidates, beyond which a request is cut."""
    buckets = make_buckets(max_candidates=max_candidates, max_history=max_history)

    assert buckets.candidates == (candidates or (32, 64, 128, 256, 512, 1024, 2048))
    assert buckets.lengths == lengths


@given(sizes)
def test_the_set_is_small_and_begins_with_the_largest(buckets):
    """At most 84 shapes, each once, by falling size, so that a memory pool grows once."""
    shapes = buckets.shapes()
    volumes = [users * candidates * length for users, candidates, length in shapes]

    assert 1 <= len(shapes) == len(set(shapes)) <= 84
    assert volumes == sorted(volumes, reverse=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), most=st.integers(1, 5000), max_history=st.integers(1, 500))
def test_whatever_the_queue_hands_out_has_a_shape(data, most, max_history):
    """Any mixture of requests, cut and joined by the limits made for these sizes, is padded to a shape of the set."""
    buckets = make_buckets(max_candidates=most, max_history=max_history)
    limits, known = device_limits(buckets), set(buckets.shapes())
    queue = BatchQueue(threads=data.draw(st.integers(1, 4)), budget_rows=10**9)
    for _ in range(data.draw(st.integers(1, 12))):
        job = queue.admit(data.draw(st.integers(1, most)), deadline=1e9, now=0.0)
        job.limits, job.length = limits, data.draw(st.integers(0, max_history))
        queue.put(job)
    while (batch := queue.next(0.0)[0]) is not None:
        for piece in batch.pieces:
            queue.encode_done(piece.job)
        fitted = Shape(
            buckets.fit_users(len(batch.pieces)),
            buckets.fit_candidates(max(piece.rows for piece in batch.pieces)),
            buckets.fit_length(max(piece.job.length for piece in batch.pieces)),
        )

        assert fitted in known


def test_beyond_the_sizes_a_multiple_of_the_largest_is_taken():
    """Golden rows are more users than any call has; they still run."""
    buckets = make_buckets(max_candidates=50, max_history=10)

    assert [buckets.fit_users(users) for users in (8, 9, 16, 17)] == [8, 16, 16, 24]


def test_padding_adds_zeros_at_the_end():
    """Values stay where they are, the type stays, and a tensor that fits is not copied."""
    tensor = np.arange(1, 7, dtype=np.int64).reshape(2, 3)
    grown = padded({"a": tensor, "b": tensor}, (4, 3))["a"]

    assert (grown.shape, grown.dtype) == ((4, 3), np.int64)
    np.testing.assert_array_equal(grown[:2], tensor)
    assert not grown[2:].any()
    assert padded({"a": tensor}, (2, 3))["a"] is tensor


class NumpyHalves:
    """Halves that only remember the shapes that they were given."""

    name = "numpy"

    def __init__(self, plain: OnnxRuntime) -> None:
        self.plain = plain
        self.seen: set[Shape] = set()

    def encode(self, request):
        self.length = request["history"].shape[1]
        return self.plain.encode_user(request)

    def pctr(self, state, items):
        users, candidates = items["item_sparse"].shape[:2]
        self.seen.add(Shape(users, candidates, self.length))
        return self.plain.score(dict(state), items)["pctr"]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=8), count=st.integers(1, 60), seed=st.integers(0, 10**6)
)
def test_padding_moves_no_score(bundle_path, lengths, count, seed):
    """Users, candidates and behaviors added as padding: the same scores to 1e-6, and as many."""
    bundle, rng = read_bundle(bundle_path), np.random.default_rng(seed)
    plain = OnnxRuntime(bundle)
    halves = NumpyHalves(plain)
    runtime = DeviceRuntime(halves, bundle, max_candidates=60)
    encoder, users = bundle.encoder, len(lengths)
    histories = [make_behaviors(rng.integers(100, 120, length)) for length in lengths]
    request = {
        **encoder.encode_request({"user_id": rng.integers(1, 11, users)}, {}, rows=users),
        **encoder.encode_history(histories),
    }
    items = encoder.encode_items({"item_id": rng.integers(100, 120, users * count)})
    items = {name: tensor.reshape(users, count, -1) for name, tensor in items.items()}

    found = runtime.score(runtime.encode_user(request), items)["pctr"]

    np.testing.assert_allclose(found, plain.score(plain.encode_user(request), items)["pctr"], rtol=0, atol=1e-6)
    assert halves.seen <= set(make_buckets(max_candidates=60, max_history=8).shapes())


def test_devices_by_name():
    """`cpu`, `cuda` and `cuda:N` are devices, anything else is refused."""
    assert [str(Device.parse(text)) for text in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda:0", "cuda:3"]
    for text in ("", "tpu", "cuda:", "cuda:x", "cpu:1", "cuda:1:2"):
        with pytest.raises(ValueError, match="allowed: cpu, cuda, cuda:N"):
            Device.parse(text)
