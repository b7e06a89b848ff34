"""The second export format: the eager net's scores at every size, in torch's own file, behind the same loader."""

import io
import re
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_bundle, write_bundle
from model.cli import main
from model.halves import ExportError, eager_pctr
from model.publish import publish
from model.run_folder import TrainedRun, load_run
from model.torchscript_export import check_parity, export_torchscript
from service.loader import load
from service.runtimes.choice import choose_on_gpu
from service.runtimes.device import Device, DeviceRuntime
from service.runtimes.onnx import OnnxRuntime
from service.runtimes.torchscript import TorchHalves, TorchScriptRuntime

KINDS = ["base", "din", "dien"]


@pytest.fixture(scope="module")
def scripted(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A TorchScript bundle per net."""
    root = tmp_path_factory.mktemp("scripted")
    runs = {kind: load_run(trained_runs[kind]) for kind in KINDS}
    return {
        kind: publish(run, root / kind, version="v1", code_version="test", export_format="torchscript")
        for kind, run in runs.items()
    }


def inputs(run: TrainedRun, *, users: int, length: int, count: int) -> tuple[Tensors, Tensors]:
    """Golden rows cut or repeated to a size, histories of `length` among them."""
    items = {n: t for n, t in run.golden.items() if n.startswith("item_")}
    request = {n: np.take(t, np.arange(users) % len(t), axis=0) for n, t in run.golden.items() if n not in items}
    real = run.golden["history"][-1][: max(int(run.golden["history_len"][-1]), 1)]
    width = max(length, 1)  # as the encoder pads: ONNX Runtime's GRU aborts the process on an axis of 0
    request["history"] = np.repeat(np.take(real, np.arange(width) % len(real), axis=0)[None], users, axis=0)
    request["history_len"] = np.maximum(length - np.arange(users), 0)
    for user, left in enumerate(request["history_len"]):
        request["history"][user, left:] = 0
    offered = {n: np.take(t[:1], np.arange(count) % t.shape[1], axis=1).repeat(users, axis=0) for n, t in items.items()}
    return request, offered


def refusal(bundle: Bundle, root: Path, files: dict[str, bytes]) -> str:
    """Why the loader refuses a bundle with these files instead."""
    path = write_bundle(root, bundle.manifest, {**bundle.files, **files})
    with pytest.raises(BundleError) as caught:
        load(path, max_candidates=10)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_gives_the_eager_scores(
    kind: str, trained_runs: dict[str, Path], scripted: dict[str, Path], bundles: dict[str, Path]
) -> None:
    """Histories of 0, 1, 5 and 20, one candidate to 500, one user and several: eager, ONNX Runtime and the padded
    runtime say the same to 1e-5."""
    run, bundle = load_run(trained_runs[kind]), read_bundle(scripted[kind])
    runtime, onnx = TorchScriptRuntime(bundle), OnnxRuntime(read_bundle(bundles[kind]))
    on_device = DeviceRuntime(TorchHalves(bundle, Device()), bundle, max_candidates=500)
    for length in (0, 1, 5, 20):
        for users, count in ((1, 1), (1, 3), (1, 500), (4, 3), (2, 70)):
            request, items = inputs(run, users=users, length=length, count=count)
            expected = eager_pctr(run.net, request, items, calibration=run.calibration)

            for one in (runtime, onnx, on_device):
                found = one.score(one.encode_user(request), items)["pctr"]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loader_serves_it_by_its_format(kind: str, scripted: dict[str, Path]) -> None:
    """The manifest names the format and the files; golden rows and warm-up pass on one thread per call."""
    loaded = load(scripted[kind], max_candidates=100)

    assert loaded.runtime.name == "torchscript"
    assert loaded.manifest.export_format == "torchscript"
    assert loaded.manifest.native is None
    assert [loaded.manifest.user_half.file, loaded.manifest.candidate_half.file] == ["user.ts", "candidate.ts"]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_archive_is_clean(kind: str, scripted: dict[str, Path]) -> None:
    """No path of this machine, no fixed device, and only the tables that a half reads."""
    files = read_bundle(scripted[kind]).files
    for name in ("user.ts", "candidate.ts"):
        with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
            code = b"".join(archive.read(n) for n in archive.namelist() if n.endswith(".py"))
            whole = b"".join(archive.read(n) for n in archive.namelist())

        assert str(Path(__file__).parents[2]).encode() not in whole
        assert str(Path(torch.__file__).parent).encode() not in whole
        assert b"torch.device" not in code
    assert abs(len(files["user.ts"]) - len(files["candidate.ts"])) > 10_000


def test_wrong_scores_do_not_pass_the_gate(trained_runs: dict[str, Path]) -> None:
    """A golden score that is off by 2e-5 is refused with the difference."""
    run = load_run(trained_runs["base"])
    items = {n: t for n, t in run.golden.items() if n.startswith("item_")}
    request = {n: t for n, t in run.golden.items() if n not in items}
    exported = export_torchscript(run.net, request, items)
    pctr = exported.golden["pctr"].copy()
    pctr[3, 2] += 2e-5

    with pytest.raises(ExportError, match=r"all golden rows.* differ by (1\.9|2\.0)\de-05"):
        check_parity(replace(exported, golden={**exported.golden, "pctr": pctr}))


@pytest.mark.parametrize("kind", ["din", "dien"])
def test_a_fixed_size_does_not_pass_the_gate(kind: str, trained_runs: dict[str, Path]) -> None:
    """A net that reads a size as a Python number, which a trace keeps for good, is refused."""
    run = load_run(trained_runs[kind])
    items = {n: t for n, t in run.golden.items() if n.startswith("item_")}
    request = {n: t for n, t in run.golden.items() if n not in items}
    keys = run.net.attention.keys
    run.net.attention.keys = lambda key_ULE: keys(key_ULE.view(*map(int, key_ULE.shape)))

    with (
        warnings.catch_warnings(action="ignore", category=torch.jit.TracerWarning),  # torch sees it too, and goes on
        pytest.raises(ExportError, match="1 users, 1 behaviors, 1 candidates: cannot be run, a size is fixed"),
    ):
        export_torchscript(run.net, request, items)


def test_what_the_loader_refuses(scripted: dict[str, Path], bundles: dict[str, Path], tmp_path: Path) -> None:
    """No archive, the other net's halves, the halves exchanged, another output: the file is named, with a reason."""
    bundle = read_bundle(scripted["din"])
    user, candidate = bundle.files["user.ts"], bundle.files["candidate.ts"]
    base = read_bundle(scripted["base"]).files

    assert refusal(bundle, tmp_path / "a", {"user.ts": b"PK\x03\x04"}).startswith("user.ts: torch cannot load it")
    assert refusal(bundle, tmp_path / "b", {"user.ts": base["user.ts"]}).startswith("user.ts: its outputs are")
    assert "cannot be run on the manifest's tensors" in refusal(
        bundle, tmp_path / "c", {"user.ts": candidate, "candidate.ts": user}
    )
    onnx = read_bundle(bundles["din"])
    mislabelled = write_bundle(tmp_path / "d", replace(onnx.manifest, export_format="torchscript"), onnx.files)
    with pytest.raises(BundleError, match=r"user\.onnx: torch cannot load it"):
        load(mislabelled, max_candidates=10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU here")
def test_an_absent_gpu_is_refused_by_name(scripted: dict[str, Path]) -> None:
    """The message names the setting and what torch finds."""
    with pytest.raises(BundleError, match=r"CTR_DEVICE=cuda:0 was asked for: torch .* finds 0 GPUs"):
        choose_on_gpu(read_bundle(scripted["din"]), device=Device("cuda"), max_candidates=10)


def test_the_command_writes_it(
    trained_runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`ctr-model export --format torchscript` passes the gate and says so."""
    arguments = ["export", str(trained_runs["base"]), "--out", str(tmp_path), "--format", "torchscript"]
    monkeypatch.setattr("sys.argv", ["ctr-model", *arguments, "--version", "v9"])  # what the console script reads
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    assert "parity gate passed" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert read_bundle(tmp_path).manifest.export_format == "torchscript"
