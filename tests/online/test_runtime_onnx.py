"""The ONNX runtime: tiles change nothing, threads share it, its failures are ours."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from model.bundle.folder import read_bundle
from model.bundle.records import make_behaviors
from service.runtimes.base import RuntimeFailure
from service.runtimes.fake import FakeRuntime
from service.runtimes.onnx import OnnxRuntime


@pytest.fixture(scope="module")
def bundle(bundle_path):
    """The tiny bundle."""
    return read_bundle(bundle_path)


def encoded(bundle, length: int, count: int):
    """Request and candidate tensors of one user."""
    encoder = bundle.encoder
    history = make_behaviors(np.arange(100, 100 + length))
    request = {**encoder.encode_request({"user_id": [1]}, {}, rows=1), **encoder.encode_history([history])}
    items = encoder.encode_items({"item_id": np.arange(count) % 20 + 100})
    return request, {name: tensor[None] for name, tensor in items.items()}


@pytest.mark.parametrize("tile", [0, 1, 3, 4, 64])
def test_tiles_change_no_score(bundle, tile):
    """However the candidates are cut, the joined scores are those of one run, also with a shorter last tile."""
    whole = OnnxRuntime(dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, candidate_tile=0)))
    tiled = OnnxRuntime(dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, candidate_tile=tile)))
    for count in (1, 4, 13):
        request, items = encoded(bundle, 3, count)
        expected, found = (r.score(r.encode_user(request), items) for r in (whole, tiled))

        assert found.keys() == {"logit", "pctr"}
        assert found["pctr"].shape == (1, count)
        np.testing.assert_allclose(found["pctr"], expected["pctr"], atol=1e-7)


def test_many_threads_at_once(bundle):
    """Calls from many threads at once each get their own answer."""
    runtime = OnnxRuntime(bundle)
    jobs = [encoded(bundle, length, count) for length in range(9) for count in (1, 5, 40)]
    alone = [runtime.score(runtime.encode_user(request), items)["pctr"] for request, items in jobs]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda job: runtime.score(runtime.encode_user(job[0]), job[1])["pctr"], jobs * 4))

    for expected, found in zip(alone * 4, together, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_failure_of_the_library_is_a_runtime_failure(bundle):
    """Whatever onnxruntime raises comes out as RuntimeFailure."""
    runtime = OnnxRuntime(bundle)
    request, items = encoded(bundle, 3, 4)
    with pytest.raises(RuntimeFailure):
        runtime.encode_user({**request, "history": request["history"] + 10**6})  # outside of the embedding table
    with pytest.raises(RuntimeFailure):
        runtime.score({}, items)


def test_the_fake_runtime_notices_every_input(bundle):
    """The fake's scores change with any tensor, so that a mixed-up request cannot go unseen in tests that use it."""
    runtime = FakeRuntime()
    request, items = encoded(bundle, 3, 4)
    expected = runtime.score(runtime.encode_user(request), items)["pctr"]

    assert ((expected > 0) & (expected < 1)).all()
    for name in [*request, *items]:
        changed_request = {n: t + (n == name) for n, t in request.items()}
        changed_items = {n: t + (n == name) for n, t in items.items()}
        found = runtime.score(runtime.encode_user(changed_request), changed_items)["pctr"]
        assert not np.allclose(found, expected), name
    with pytest.raises(RuntimeFailure):
        runtime.score({}, {})
