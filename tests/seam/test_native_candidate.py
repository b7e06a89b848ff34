"""The native candidate half against the eager net: every path, every option of the nets, every odd size."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from model.bundle.errors import BundleError
from model.bundle.schema import Schema, schema_from_table
from model.native_weights import native_half
from model.nets import Net, build_net
from service.runtimes.base import RuntimeFailure
from service.runtimes.native.candidate import NativeCandidate
from service.runtimes.native.library import BFLOAT16, Kernel, NativeUnavailable
from service.runtimes.native.weights import read_weights

PATHS = ["avx512", "avx2", "portable"]
SIZES = {"city": 9, "item_id": 500, "brand": 30, "cate_id": 40}
NETS = {
    "din": {"kind": "din"},
    "din, softmax": {"kind": "din", "softmax": True},
    "din, prelu": {"kind": "din", "activation": "prelu"},
    "din, odd sizes": {"kind": "din", "attention": [13, 7, 5], "head": [17, 9, 3], "softmax": True},
    "din, one layer": {"kind": "din", "attention": [11], "head": [6], "activation": "prelu"},
    "dien": {"kind": "dien"},
    "agru": {"kind": "agru", "attention": [9, 4]},
    "dien, prelu, odd sizes": {"kind": "dien", "attention": [9, 4], "head": [21, 1], "activation": "prelu"},
}
# Between them the item's features beside those of behaviors: none, one sparse in the middle, two dense.
SCHEMAS = {
    "plain": {
        "item": [{"name": "item_id", "dim": 18}, {"name": "cate_id", "dim": 18}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    },
    "extras": {
        "user": [{"name": "city", "dim": 5}],
        "item": [
            {"name": "price", "kind": "dense"},
            {"name": "item_id", "dim": 7},
            {"name": "brand", "dim": 3},
            {"name": "cate_id", "dim": 6},
            {"name": "age", "kind": "dense"},
        ],
        "behavior": [{"shares": "cate_id", "column": "c"}, {"shares": "item_id", "column": "i"}],
    },
}


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The compiled kernel, where it is built."""
    try:
        return Kernel()
    except NativeUnavailable as error:
        pytest.skip(str(error))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A net, and the kernel's weights of it."""

    net: Net
    schema: Schema
    arrays: dict[str, np.ndarray]

    def native(self, kernel: Kernel, path: str) -> NativeCandidate:
        """The same candidate half in the kernel; the test is skipped where the processor lacks the path."""
        if path not in (*kernel.paths, *kernel.rounding):
            pytest.skip(f"this processor has no {path}")
        half, _ = native_half(self.net)
        return NativeCandidate(read_weights(half, self.schema, self.arrays), kernel, path=path)

    def inputs(self, lengths: list[int], count: int, *, padding: int = 0) -> tuple[dict, dict, np.ndarray]:
        """State and candidates for one user per length, and the eager net's pCTR."""
        rng, users, width = np.random.default_rng(count), len(lengths), max(lengths) + padding
        shared = [s.shares for s in self.schema.behavior]
        history = np.stack([rng.integers(1, SIZES[name], (users, width)) for name in shared], axis=-1)
        history[np.arange(width) >= np.array(lengths)[:, None]] = 0
        request = {"history": history, "history_len": np.array(lengths), "user_sparse": rng.integers(1, 9, (users, 1))}
        names = [feature.name for feature in self.schema.sparse("item")]
        items = {"item_sparse": np.stack([rng.integers(0, SIZES[name], (users, count)) for name in names], axis=-1)}
        if dense := len(self.schema.dense("item")):
            items["item_dense"] = rng.normal(size=(users, count, dense)).astype(np.float32)
        with torch.inference_mode():
            state = self.net.encode_user(tensors(request))
            pctr = torch.sigmoid(self.net.score(state, tensors(items))).numpy()
        return {name: tensor.numpy() for name, tensor in state.items()}, items, pctr


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The same for torch."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def make_case(net: str, schema: str) -> Case:
    """A net whose weights are large enough that a mistake shows, with Dice statistics other than 0 and 1."""
    read = schema_from_table({"keys": {"category": "cate_id"}, **SCHEMAS[schema]}, file="test")
    torch.manual_seed(5)
    made = build_net(NETS[net], read, SIZES, file="test").eval()
    for name, tensor in made.state_dict().items():
        if "tables" in name:
            tensor[2:].normal_(std=0.5)
        elif name.endswith("weight"):
            tensor.mul_(2)
        elif name.endswith("variance"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("mean", "alpha")):
            tensor.normal_(std=0.3)
    return Case(net=made, schema=read, arrays=native_half(made)[1])


@pytest.fixture(scope="module", params=[(net, schema) for net in NETS for schema in SCHEMAS], ids=" / ".join)
def case(request: pytest.FixtureRequest) -> Case:
    """Every net with every schema."""
    return make_case(*request.param)


@pytest.mark.parametrize("path", PATHS)
def test_scores_are_those_of_the_eager_net(case: Case, kernel: Kernel, path: str) -> None:
    """Several users at once with histories from 0 to 100, and one alone, at counts around whole vectors."""
    native = case.native(kernel, path)
    for lengths, count in (([0, 1, 5, 20, 100], 3), ([7, 2], 17), ([0], 1), ([100], 64), ([33], 500)):
        state, items, expected = case.inputs(lengths, count)

        found = native.score(state, items)

        assert found["pctr"].shape == found["logit"].shape == expected.shape
        np.testing.assert_allclose(found["pctr"], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(1 / (1 + np.exp(-found["logit"].astype(np.float64))), found["pctr"], atol=1e-6)
    assert expected.std() > 1e-3  # they are different candidates


def test_bfloat16_scores_are_near_those_of_the_eager_net(case: Case, kernel: Kernel) -> None:
    """Rounded inputs and weights of the attention, close, and not the float32 path by another name."""
    rounded, exact = case.native(kernel, BFLOAT16), case.native(kernel, kernel.paths[0])
    moved = 0.0
    for lengths, count in (([0, 1, 5, 20, 100], 3), ([7, 2], 17), ([0], 1), ([33], 50)):
        state, items, expected = case.inputs(lengths, count)

        found = rounded.score(state, items)["pctr"]

        np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)
        moved = max(moved, float(np.abs(found - exact.score(state, items)["pctr"]).max()))
    assert moved > 0


@pytest.mark.parametrize("path", [*PATHS, BFLOAT16])
@pytest.mark.parametrize("net", ["din, softmax", "dien"])
def test_a_score_depends_on_nothing_beside_it(net: str, kernel: Kernel, path: str) -> None:
    """Bit by bit: neither its neighbours, nor the number of candidates, nor padding, nor other users move a score."""
    case = make_case(net, "extras")
    native = case.native(kernel, path)
    state, items, _ = case.inputs([20, 5], 50, padding=3)
    whole = native.score(state, items)["pctr"]

    backwards = native.score(state, {name: tensor[:, ::-1] for name, tensor in items.items()})["pctr"]
    np.testing.assert_array_equal(backwards[:, ::-1], whole)
    second = {name: tensor[1:] for name, tensor in state.items()}
    for one in (0, 15, 16, 49):
        alone = {name: tensor[1:, one : one + 1] for name, tensor in items.items()}
        assert native.score(second, alone)["pctr"][0, 0] == whole[1, one]
    axes = ("state_keys", "state_mask", "state_inputs")
    shorter = {name: tensor[:, :20] if name in axes else tensor for name, tensor in state.items()}
    np.testing.assert_array_equal(native.score(shorter, items)["pctr"], whole)


@pytest.mark.parametrize("path", [*PATHS, BFLOAT16])
def test_extreme_weights_give_finite_scores(kernel: Kernel, path: str) -> None:
    """Gates far beyond the range of 2^x saturate as the eager net's do; nothing overflows to NaN."""
    case = make_case("dien", "plain")
    with torch.no_grad():
        for parameter in (
            case.net.attention.product_weight,
            case.net.evolution.hidden_weight,
            case.net.head.user_weight,
        ):
            parameter.mul_(300)
    case = Case(net=case.net, schema=case.schema, arrays=native_half(case.net)[1])
    state, items, expected = case.inputs([0, 20], 40)

    found = case.native(kernel, path).score(state, items)["pctr"]

    assert np.isfinite(found).all()
    if path != BFLOAT16:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("path", [None, BFLOAT16])
def test_threads_share_the_weights_and_nothing_else(kernel: Kernel, path: str | None) -> None:
    """Calls of different sizes from several threads at once each get their own scores."""
    case = make_case("dien", "extras")
    native = case.native(kernel, path or kernel.paths[0])
    jobs = [case.inputs([length], count) for length in (1, 30, 80) for count in (2, 40)] * 5
    alone = [native.score(state, items)["pctr"] for state, items, _ in jobs]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda job: native.score(job[0], job[1])["pctr"], jobs))

    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("index", [-1, 500, 2**62, -(2**62)])
def test_an_index_outside_of_its_table_is_refused(kernel: Kernel, path: str, index: int) -> None:
    """Wherever it stands, and before it is used as an address."""
    case = make_case("din", "extras")
    native = case.native(kernel, path)
    state, items, _ = case.inputs([4], 40)
    for candidate in (0, 39):
        wrong = {**items, "item_sparse": items["item_sparse"].copy()}
        wrong["item_sparse"][0, candidate, 0] = index
        with pytest.raises(RuntimeFailure, match="index is outside of its table"):
            native.score(state, wrong)


def test_a_tensor_of_another_shape_or_type_is_refused(kernel: Kernel) -> None:
    """Every tensor that the kernel would read: missing, too short in any axis, or of another type."""
    case = make_case("dien", "extras")
    native = case.native(kernel, kernel.paths[0])
    state, items, _ = case.inputs([4, 2], 8)
    tensors = {**state, **items}
    for name, tensor in tensors.items():
        wrong = [tensor.astype(np.float64), *(np.delete(tensor, -1, axis=axis) for axis in range(tensor.ndim))]
        with pytest.raises(RuntimeFailure, match=name):
            native.score({n: t for n, t in tensors.items() if n != name}, {})
        for changed in wrong:
            with pytest.raises(RuntimeFailure, match=r"expected|axes"):
                native.score({**tensors, name: changed}, {})


def test_weights_that_do_not_fit_together_are_refused_by_name() -> None:
    """Whatever array is missing, of another type or longer in any axis: the message names the file and the array."""
    case = make_case("dien", "extras")
    half, arrays = native_half(case.net)
    read_weights(half, case.schema, arrays)
    for name, array in arrays.items():
        longer = [1] if name.startswith("table.") else range(array.ndim)  # a table may have any number of rows
        changes = [array.astype(np.float64), *(np.concatenate([array, array], axis=axis) for axis in longer)]
        for changed in changes:
            with pytest.raises(BundleError, match=r"^candidate.npz: "):
                read_weights(half, case.schema, {**arrays, name: changed})
        with pytest.raises(BundleError, match=r"^candidate.npz: "):
            read_weights(half, case.schema, {n: a for n, a in arrays.items() if n != name})


def test_a_net_that_no_kernel_knows_has_no_weights() -> None:
    """`base` is served by ONNX Runtime."""
    schema = make_case("din", "plain").schema
    assert native_half(build_net({"kind": "base"}, schema, SIZES, file="test")) is None
