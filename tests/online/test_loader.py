"""A bundle that is not exactly what was exported is refused, the file at fault is named, and the service stays up."""

import dataclasses
import shutil

import numpy as np
import pytest

from model.bundle.errors import BundleError
from model.bundle.folder import GOLDEN, read_bundle, to_npz, write_bundle
from model.bundle.manifest import MANIFEST
from service.loader import load
from service.runtimes.fake import FakeRuntime

FILES = [
    "manifest.json",
    "user.onnx",
    "candidate.onnx",
    "golden.npz",
    "vocab/prior_ctr.npy",
    "vocab/catalogue.npz",
    "vocab/scalings.npz",
    "vocab/user_id.npy",
    "vocab/city.npy",
    "vocab/item_id.npy",
    "vocab/cate_id.npy",
    "vocab/hour.npy",
]


@pytest.fixture
def copy(bundle_path, tmp_path):
    """A bundle to spoil."""
    return shutil.copytree(bundle_path, tmp_path / "v1")


@pytest.fixture
def rewritten(bundle_path, tmp_path):
    """`rewritten(files, **manifest)`: the bundle with other files or manifest fields and correct checksums."""

    def rewrite(files=None, **changes):
        bundle = read_bundle(bundle_path)
        manifest = dataclasses.replace(bundle.manifest, version="v2", **changes)
        return write_bundle(tmp_path, manifest, {**bundle.files, **(files or {})})

    return rewrite


def refusal(path) -> str:
    """Why the loader refuses it."""
    with pytest.raises(BundleError) as caught:
        load(path, max_candidates=10)
    return str(caught.value)


def test_the_list_above_is_complete(bundle_path):
    """Every file of the bundle is spoiled below."""
    assert sorted(FILES) == sorted(str(f.relative_to(bundle_path)) for f in bundle_path.rglob("*") if f.is_file())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_flipped_bit_is_refused(copy, name, where):
    """A change of one bit anywhere in any file is found, and the file is named."""
    raw = bytearray((copy / name).read_bytes())
    raw[{"first": 0, "middle": len(raw) // 2, "last": -1}[where]] ^= 1
    (copy / name).write_bytes(bytes(raw))

    assert refusal(copy).startswith(f"{name}: ")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(copy, name):
    """A file that is gone is named."""
    (copy / name).unlink()

    assert name in refusal(copy)


def test_a_manifest_of_brackets_is_refused(copy):
    """JSON that is nested deeper than Python reads is no manifest."""
    (copy / "manifest.json").write_bytes(b"[" * 100_000)

    assert refusal(copy).startswith("manifest.json: not JSON")


def test_another_format_version_is_refused(rewritten):
    """A bundle of another release says which version it has and which is read here."""
    path = rewritten(format_version=0)

    assert refusal(path) == f"{MANIFEST}: format version 0, this release reads 2"


def test_altered_golden_scores_are_refused(bundle_path, rewritten):
    """Golden scores that the graphs do not give are found although every checksum is right."""
    golden = read_bundle(bundle_path).golden
    altered = golden["pctr"].copy()
    altered[1, 2] += 2e-5

    assert refusal(rewritten({GOLDEN: to_npz({**golden, "pctr": altered})})).startswith(
        f"{GOLDEN}: its scores differ by 2e-05"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda golden: {n: t for n, t in golden.items() if n != "pctr"}, "has no scores"),
        (lambda golden: {n: t for n, t in golden.items() if n != "history"}, "has no history"),
        (lambda golden: {**golden, "pctr": golden["pctr"][:, :3]}, "has scores of shape"),
        (lambda golden: {**golden, "pctr": golden["pctr"] * np.nan}, "its scores differ by nan"),
        (lambda golden: {**golden, "history": golden["history"] + 10**6}, "cannot be run through the graphs"),
        (lambda golden: {**golden, "item_sparse": golden["item_sparse"].astype(np.float32)}, "cannot be run"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(bundle_path, rewritten, change, why):
    """Incomplete or impossible golden rows name the golden file."""
    path = rewritten({GOLDEN: to_npz(change(read_bundle(bundle_path).golden))})

    assert refusal(path).startswith(f"{GOLDEN}: ")
    assert why in refusal(path)


def test_a_graph_that_is_not_the_manifests_is_refused(bundle_path, rewritten):
    """A frozen dimension, another type, another name, or no graph at all is found and the graph's file named."""
    manifest = read_bundle(bundle_path).manifest

    def half(which, tensor, **changes):
        part = getattr(manifest, which)
        inputs = tuple(dataclasses.replace(s, **changes) if s.name == tensor else s for s in part.inputs)
        return {which: dataclasses.replace(part, inputs=inputs)}

    cases = [
        (half("user_half", "history", name="histories"), "user.onnx: its inputs are"),
        (half("user_half", "user_sparse", shape=("U", 3)), "user.onnx: input user_sparse is int64 ['U', 2]"),
        (half("user_half", "history", dtype="float32"), "user.onnx: input history is int64"),
        (half("candidate_half", "item_sparse", shape=("U", "C")), "candidate.onnx: input item_sparse"),
        (half("candidate_half", "item_sparse", shape=("U", "C", "F")), "candidate.onnx: input item_sparse"),
        ({"candidate_half": dataclasses.replace(manifest.candidate_half, file="none.onnx")}, "none.onnx: not listed"),
    ]
    for changes, why in cases:
        path = rewritten(**changes)
        assert refusal(path).startswith(why)
        shutil.rmtree(path)
    assert refusal(rewritten({"user.onnx": b"no graph"})).startswith("user.onnx: onnxruntime cannot load it")


def test_a_graph_that_fails_on_real_shapes_is_refused(rewritten):
    """A graph that passes its golden rows but not the request shapes is found by the warm-up."""

    class OnlyGolden(FakeRuntime):
        def __init__(self, bundle):
            super().__init__()
            self.golden = bundle.golden["pctr"]

        def score(self, state, candidates):
            if len(candidates["item_sparse"]) == len(self.golden):
                return {"pctr": self.golden}
            return super().score(state, {})

    with pytest.raises(BundleError, match="1 candidates with a history of 0 cannot be run"):
        load(rewritten(), max_candidates=10, runtimes={"onnx": OnlyGolden})


def test_an_export_format_without_a_runtime_is_refused(rewritten):
    """The message says what can be run."""
    path = rewritten(export_format="torchscript")

    with pytest.raises(BundleError) as caught:
        load(path, max_candidates=10, runtimes={"onnx": FakeRuntime})
    assert str(caught.value) == f"{MANIFEST}: export_format 'torchscript' cannot be run, allowed: onnx"


def test_a_good_bundle_is_loaded(bundle_path):
    """What was loaded carries the manifest, the encoder, the priors and a runtime that scores."""
    loaded = load(bundle_path, max_candidates=10)

    assert (loaded.manifest.name, loaded.manifest.version) == ("tiny", "v1")
    assert loaded.prior_ctr.shape == (22,)
    assert len(loaded.encoder.vocabularies["item_id"]) == 22


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["user.onnx", "vocab/item_id.npy", "manifest.json"])
async def test_a_service_with_a_bad_bundle_stays_up_and_says_why(copy, serve, name):
    """/readyz and /score are 503 and name the file; /livez, /metrics and /docs answer as ever."""
    raw = bytearray((copy / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / name).write_bytes(bytes(raw))
    async with serve(bundle=str(copy)) as client:
        ready, bundle = await client.get("/readyz"), await client.get("/bundle")
        score = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})
        others = [(await client.get(path)).status_code for path in ("/livez", "/metrics", "/docs")]
        metrics = (await client.get("/metrics")).text

    assert [ready.status_code, bundle.status_code, score.status_code] == [503, 503, 503]
    assert all(name in answer.json()["error"] for answer in (ready, bundle, score))
    assert ready.json()["error_type"] == "not_ready"
    assert others == [200, 200, 200]
    assert "ctr_ready 0.0" in metrics


@pytest.mark.anyio
async def test_a_service_without_a_bundle_says_where_it_looked(tmp_path, serve):
    """A path with nothing in it is a reason like any other."""
    async with serve(bundle=str(tmp_path / "nothing")) as client:
        ready = await client.get("/readyz")

    assert ready.status_code == 503
    assert "manifest.json: not found" in ready.json()["error"]
