"""A calibrated bundle: the same calibrated pCTR and the same raw logit from every runtime."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.bundle.calibration import Calibration
from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle, write_bundle
from model.publish import Format, publish
from model.run_folder import TrainedRun, load_run
from service.loader import load
from service.runtimes.choice import choose_runtime, choose_torchscript
from service.runtimes.native.library import Kernel, NativeUnavailable

# Steep, with a bend inside the range of the small net's scores, and trained on a fifth of the non-clicks.
BENT = Calibration(
    kind="isotonic",
    x=(-3.2, -2.6, -2.1),
    y=(-4.0, -1.0, 2.5),
    below=0.5,
    above=3.0,
    negative_sampling_rate=0.2,
)
RUNTIMES = {
    "onnx": {"onnx": partial(choose_runtime, choice="onnx")},
    "native": {"onnx": partial(choose_runtime, choice="native")},
    "torchscript": {"torchscript": choose_torchscript},
}


@pytest.fixture(scope="module")
def run(trained_runs: dict[str, Path]) -> TrainedRun:
    """The trained DIN with another calibration."""
    trained = load_run(trained_runs["din"])
    return replace(trained, metrics={**trained.metrics, "calibration": asdict(BENT)})


@pytest.fixture(scope="module")
def calibrated(run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Path]:
    """Its bundles in both formats, through their gates."""
    root = tmp_path_factory.mktemp("calibrated")
    formats: tuple[Format, ...] = ("onnx", "torchscript")
    return {f: publish(run, root / f, version="v1", code_version="test", export_format=f) for f in formats}


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_calibrates_and_leaves_the_logit_raw(name: str, calibrated: dict[Format, Path]) -> None:
    """Loaded through the golden gate; pCTR is the curve of the manifest applied to the logit, which is the net's."""
    if name == "native":
        try:
            Kernel()
        except NativeUnavailable as error:
            pytest.skip(str(error))
    (export_format,) = RUNTIMES[name]
    path = calibrated[export_format]
    runtime = load(path, max_candidates=20, runtimes=RUNTIMES[name]).runtime
    bundle = read_bundle(path)
    items = {n: tensor for n, tensor in bundle.golden.items() if n.startswith("item_")}
    request = {n: t for n, t in bundle.golden.items() if n not in items and n != "pctr"}

    found = runtime.score(runtime.encode_user(request), items)

    assert bundle.manifest.parsed_calibration() == BENT
    np.testing.assert_allclose(found["pctr"], BENT.pctr(found["logit"]), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["pctr"], bundle.golden["pctr"], rtol=0, atol=1e-5)
    assert np.abs(found["pctr"] - 1 / (1 + np.exp(-found["logit"]))).max() > 0.05


def test_calibration_keeps_the_ranking_of_the_uncalibrated_bundle(
    calibrated: dict[Format, Path], bundles: dict[str, Path]
) -> None:
    """Candidates of each golden user come in the same order with the run's own calibration and with this one."""
    one, other = (read_bundle(path).golden["pctr"] for path in (calibrated["onnx"], bundles["din"]))

    np.testing.assert_array_equal(np.argsort(one, axis=1, kind="stable"), np.argsort(other, axis=1, kind="stable"))


def test_the_user_half_knows_no_calibration(calibrated: dict[Format, Path], bundles: dict[str, Path]) -> None:
    """Its graph is the same, byte for byte."""
    one, other = (read_bundle(path).files["user.onnx"] for path in (calibrated["onnx"], bundles["din"]))

    assert one == other


def test_a_manifest_whose_calibration_is_another_is_refused(calibrated: dict[Format, Path], tmp_path: Path) -> None:
    """The native runtime reads it there, and the golden scores do not come out."""
    read = read_bundle(calibrated["onnx"])
    changed = write_bundle(tmp_path, replace(read.manifest, calibration={"kind": "none"}), read.files)
    try:
        Kernel()
    except NativeUnavailable as error:
        pytest.skip(str(error))

    with pytest.raises(BundleError, match="golden"):
        load(changed, max_candidates=20, runtimes=RUNTIMES["native"])
