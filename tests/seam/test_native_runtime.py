"""The native runtime behind the loader: chosen where it can serve, held to the golden scores, refused by name."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle, read_npz, to_npz, write_bundle
from model.bundle.manifest import manifest_from_bytes
from service.loader import load
from service.runtimes.choice import choose_runtime
from service.runtimes.native.library import BFLOAT16, PORTABLE, Kernel, NativeUnavailable
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OnnxRuntime

NATIVE = ["din", "dien"]


@pytest.fixture
def kernel() -> Kernel:
    """The compiled kernel, where it is built."""
    try:
        return Kernel()
    except NativeUnavailable as error:
        pytest.skip(str(error))


def rewritten(bundle: Path, root: Path, *, native: bool = True, **changed: np.ndarray) -> Path:
    """A copy whose checksums are right but whose candidate weights are not, or are not there."""
    read = read_bundle(bundle)
    files = dict(read.files)
    arrays = {**read_npz(files, "candidate.npz"), **changed}
    files["candidate.npz"] = to_npz(arrays)
    if not native:
        del files["candidate.npz"]
    return write_bundle(root, replace(read.manifest, native=read.manifest.native if native else None), files)


@pytest.mark.parametrize("kind", NATIVE)
def test_a_trained_bundle_scores_as_its_graphs_do(kind: str, bundles: dict[str, Path], kernel: Kernel) -> None:
    """Golden rows of a real export through every path: the scores of ONNX Runtime and of the eager net."""
    bundle = read_bundle(bundles[kind])
    golden = bundle.golden
    onnx = OnnxRuntime(bundle)
    state = onnx.encode_user(golden)
    items = {name: tensor for name, tensor in golden.items() if name.startswith("item_")}
    for path in kernel.paths:
        native = NativeRuntime(bundle, path=path)
        found = native.score(native.encode_user(golden), items)

        np.testing.assert_allclose(found["pctr"], golden["pctr"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["logit"], onnx.score(state, items)["logit"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", NATIVE)
def test_auto_takes_the_kernel_where_it_is(kind: str, bundles: dict[str, Path], kernel: Kernel) -> None:
    """The loader serves these nets natively on a processor with AVX2, and by ONNX Runtime where only `portable` is."""
    fastest = kernel.paths[0]
    expected = "onnx" if fastest == PORTABLE else f"native-{fastest}"

    assert load(bundles[kind], max_candidates=40).runtime.name == expected


def test_nets_without_weights_run_on_onnx_runtime(bundles: dict[str, Path], tmp_path: Path) -> None:
    """`base`, and a bundle from before the weights existed, whose manifest does not mention them."""
    old = rewritten(bundles["din"], tmp_path / "old", native=False)

    assert "native" not in (old / "manifest.json").read_text()
    assert manifest_from_bytes((old / "manifest.json").read_bytes()).native is None
    for path in (bundles["base"], old):
        assert load(path, max_candidates=4).runtime.name == "onnx"
        with pytest.raises(BundleError, match=r"manifest.json: .*no weights for the native runtime"):
            choose_runtime(read_bundle(path), choice="native")


def test_onnx_is_taken_when_it_is_asked_for(bundles: dict[str, Path]) -> None:
    """Also for a bundle that the kernel could score."""
    assert choose_runtime(read_bundle(bundles["din"]), choice="onnx").name == "onnx"


def test_without_the_kernel_auto_serves_and_native_says_why(bundles: dict[str, Path], tmp_path: Path) -> None:
    """An install without a compiler: ONNX Runtime by default, and a refusal with its reason."""
    bundle = read_bundle(bundles["din"])

    assert choose_runtime(bundle, folder=tmp_path).name == "onnx"
    with pytest.raises(BundleError, match=r"native runtime in float32 was asked for: .*not built"):
        choose_runtime(bundle, choice="native", folder=tmp_path)


def test_bfloat16_serves_where_the_processor_has_it_and_says_so_elsewhere(
    bundles: dict[str, Path], kernel: Kernel, tmp_path: Path
) -> None:
    """Through the loader's golden rows, with a tolerance of its own; never a silent float32 or ONNX Runtime instead."""
    runtimes = {"onnx": partial(choose_runtime, precision="bfloat16")}
    if kernel.rounding:
        assert load(bundles["din"], max_candidates=4, runtimes=runtimes).runtime.name == f"native-{BFLOAT16}"
    else:
        with pytest.raises(BundleError, match=f"native runtime in bfloat16 was asked for: no path '{BFLOAT16}'"):
            load(bundles["din"], max_candidates=4, runtimes=runtimes)
    with pytest.raises(BundleError, match=r"no weights for the native runtime"):
        load(bundles["base"], max_candidates=4, runtimes=runtimes)
    with pytest.raises(BundleError, match=r"native runtime in bfloat16 was asked for: .*not built"):
        choose_runtime(read_bundle(bundles["din"]), precision="bfloat16", folder=tmp_path)


def test_a_library_that_cannot_be_loaded_counts_as_not_built(
    bundles: dict[str, Path], kernel: Kernel, tmp_path: Path
) -> None:
    """A file for another machine must not take the service down."""
    (tmp_path / kernel.file.name).write_bytes(b"\x7fELF but not really")

    assert choose_runtime(read_bundle(bundles["din"]), folder=tmp_path).name == "onnx"


def test_a_path_that_the_processor_lacks_is_refused_with_those_it_has(bundles: dict[str, Path], kernel: Kernel) -> None:
    """By name, before anything runs."""
    with pytest.raises(NativeUnavailable, match=re.escape(", ".join(kernel.paths))):
        NativeRuntime(read_bundle(bundles["din"]), path="sparc")


@pytest.mark.usefixtures("kernel")
def test_wrong_weights_do_not_become_ready(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Intact checksums, another bias: the golden scores come out differently, so the bundle is refused."""
    arrays = read_npz(read_bundle(bundles["din"]).files, "candidate.npz")
    moved = rewritten(bundles["din"], tmp_path / "moved", **{"head.1.bias": arrays["head.1.bias"] + 1})
    short = rewritten(bundles["din"], tmp_path / "short", **{"attention.bias": arrays["attention.bias"][1:]})
    runtimes = {"onnx": NativeRuntime}

    with pytest.raises(BundleError, match=r"golden.npz: its scores differ"):
        load(moved, max_candidates=4, runtimes=runtimes)
    with pytest.raises(BundleError, match=r"candidate.npz: attention.1.weight is float32"):
        load(short, max_candidates=4, runtimes=runtimes)


@pytest.mark.usefixtures("kernel")
def test_a_damaged_weights_file_is_refused_by_name(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Cut off, or no archive at all, although the manifest's checksum says that it is what was written."""
    read = read_bundle(bundles["din"])
    whole = read.files["candidate.npz"]
    for number, raw in enumerate((b"", b"PK\x03\x04", whole[:-100], whole[: len(whole) // 2])):
        path = write_bundle(tmp_path / str(number), read.manifest, {**read.files, "candidate.npz": raw})
        with pytest.raises(BundleError, match=r"^candidate.npz: not a numpy archive"):
            load(path, max_candidates=4, runtimes={"onnx": NativeRuntime})
