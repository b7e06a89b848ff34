"""The exporter's gate, and what a bundle is worth after it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_bundle, resolve, write_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import write_pointer
from model.export import check_parity, refuse_frozen
from model.halves import EXPLAINED, ExportedHalves, ExportError, eager_pctr
from model.nets import build_net
from model.onnx_tables import open_graph
from model.publish import publish
from model.run_folder import TrainedRun, load_run, vocabulary_sizes

KINDS = ["base", "din", "dien"]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, trained_runs: dict[str, Path]) -> TrainedRun:
    return load_run(trained_runs[request.param])


@pytest.fixture
def bundle(run: TrainedRun, bundles: dict[str, Path]) -> Bundle:
    """The bundle of the same net."""
    return read_bundle(bundles[run.config["net"]["kind"]])


def test_exported_scores_are_the_eager_scores_at_every_size(run: TrainedRun, bundle: Bundle) -> None:
    """Users, history length and candidates vary freely in the exported graphs, with the eager net's scores."""
    items = {n: t for n, t in run.golden.items() if n.startswith("item_")}
    request = {n: t for n, t in run.golden.items() if n not in items}
    user, candidate = (onnxruntime.InferenceSession(bundle.path / f"{h}.onnx") for h in ("user", "candidate"))
    for users, length, count in ((1, 1, 1), (3, 2, 500), (8, 50, 7), (1, 100, 64)):
        inputs = {n: np.take(t, np.arange(users) % len(t), axis=0) for n, t in request.items()}
        inputs["history"] = np.take(inputs["history"], np.arange(length) % inputs["history"].shape[1], axis=1)
        inputs["history_len"] = np.minimum(inputs["history_len"], length)
        offered = {n: np.take(t[:users], np.arange(count) % t.shape[1], axis=1) for n, t in items.items()}
        state = dict(zip([o.name for o in user.get_outputs()], user.run(None, inputs), strict=True))

        logit, pctr = candidate.run(["logit", "pctr"], {**state, **offered})

        np.testing.assert_allclose(pctr, eager_pctr(run.net, inputs, offered, calibration=run.calibration), atol=1e-5)
        np.testing.assert_allclose(pctr, run.calibration.pctr(logit), atol=1e-6)


def test_golden_rows_cover_the_hard_cases(run: TrainedRun) -> None:
    """Among the golden rows are an empty history, a full one and an unknown item."""
    assert run.golden["history_len"].min() == 0
    assert run.golden["history_len"].max() == run.golden["history"].shape[1]
    assert (run.golden["item_sparse"][..., 0] == 1).any()


def test_altered_golden_rows_do_not_pass_the_gate(bundle: Bundle) -> None:
    """A difference of 2e-5 in one score, weight or step is refused, and the message says how large it is."""
    told = [name for name in ("pctr", *EXPLAINED) if name in bundle.golden]
    assert len(told) == {"base": 1, "din": 2, "dien": 3}[bundle.manifest.net["kind"]]
    for name in told:
        altered = bundle.golden[name].copy()
        exported = ExportedHalves(
            user=bundle.manifest.user_half,
            candidate=bundle.manifest.candidate_half,
            explain=bundle.manifest.explain,
            files=bundle.files,
            golden={**bundle.golden, name: altered},
        )
        check_parity(exported)
        altered.reshape(-1)[-1] += 2e-5

        with pytest.raises(ExportError, match=r"all golden rows.* differ by (1\.9|2\.0)\de-05, allowed 1e-05"):
            check_parity(exported)


def test_a_frozen_dimension_is_refused(bundle: Bundle) -> None:
    """The file's own input shapes count: a history length fixed at 7 is found in a graph that looks right otherwise."""
    proto = onnx.load(bundle.path / "user.onnx")
    (history,) = [i for i in proto.graph.input if i.name == "history"]
    specs = bundle.manifest.user_half.inputs
    refuse_frozen(open_graph(proto.SerializeToString(), {}), specs, file="user.onnx")
    history.type.tensor_type.shape.dim[1].dim_value = 7

    with pytest.raises(ExportError, match=r"user.onnx: history has L fixed at 7 in axis 1"):
        refuse_frozen(open_graph(proto.SerializeToString(), {}), specs, file="user.onnx")


def test_nothing_of_the_machine_or_of_training_is_in_the_graphs(bundle: Bundle) -> None:
    """No path of the building machine, no auxiliary net and no negatives in an exported file."""
    for name in ("user.onnx", "candidate.onnx"):
        assert str(Path(__file__).parents[2]).encode() not in bundle.files[name]
        assert b"discriminator" not in bundle.files[name]
        assert b"negative" not in bundle.files[name]


def test_the_same_run_gives_the_same_bytes(
    bundles: dict[str, Path], trained_runs: dict[str, Path], tmp_path: Path
) -> None:
    """Export is deterministic: a second bundle of the same version has the same files, manifest included."""
    again = publish(load_run(trained_runs["dien"]), tmp_path, version="v1", code_version="test")

    first, second = read_bundle(bundles["dien"]), read_bundle(again)

    assert first.files == second.files
    assert (bundles["dien"] / MANIFEST).read_bytes() == (again / MANIFEST).read_bytes()


def test_a_bundle_round_trips(run: TrainedRun, bundle: Bundle) -> None:
    """What is read back encodes and says what was written."""
    ids = run.encoder.catalogue.ids[:5]

    assert bundle.manifest.metrics["valid"]["auc"] == run.metrics["splits"]["valid"]["auc"]
    assert bundle.schema == run.schema
    np.testing.assert_array_equal(bundle.prior_ctr, run.prior_ctr)
    for name, tensor in run.encoder.encode_items({"item_id": ids}).items():
        np.testing.assert_array_equal(bundle.encoder.encode_items({"item_id": ids})[name], tensor)


def test_a_pointer_names_a_version(bundle_folder: Path) -> None:
    """`stable` and the version folder lead to the same bundle; a pointer to nothing is not written."""
    root = bundle_folder.parent
    write_pointer(root, "stable", "v1")

    assert read_bundle(root).path == bundle_folder == resolve(root / "stable")
    with pytest.raises(BundleError, match="v2"):
        write_pointer(root, "stable", "v2")


def test_a_version_is_never_written_twice(bundle_folder: Path) -> None:
    """A bundle is immutable."""
    manifest = read_bundle(bundle_folder).manifest

    with pytest.raises(BundleError, match="already there"):
        write_bundle(bundle_folder.parent, manifest, {})


def test_a_refused_export_writes_nothing(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """Scores that are no numbers are refused, and no folder is left behind."""
    run = load_run(trained_runs["base"])
    with torch.no_grad():
        run.net.head.bias.fill_(float("nan"))

    with pytest.raises(ExportError):
        publish(run, tmp_path / "bundles", version="v1", code_version="test")

    assert not (tmp_path / "bundles").exists()


@pytest.fixture
def bundle_folder(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(bundles["base"], tmp_path / "base" / "v1"))


def test_one_flipped_byte_in_any_file_is_found(bundle_folder: Path) -> None:
    """Whatever file, wherever the byte: refused with the file's name."""
    files = [p for p in bundle_folder.rglob("*") if p.is_file()]
    assert len(files) > 8
    for path in files:
        raw = path.read_bytes()
        for at in {0, len(raw) // 2, len(raw) - 1}:
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])

            with pytest.raises(BundleError, match=path.name):
                read_bundle(bundle_folder)

        path.unlink()
        with pytest.raises(BundleError, match=path.name):
            read_bundle(bundle_folder)
        path.write_bytes(raw)
    read_bundle(bundle_folder)


def test_another_format_version_is_refused(bundle_folder: Path) -> None:
    """The message says which version was found and which one is read."""
    path = bundle_folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 0}))

    with pytest.raises(BundleError, match=r"manifest.json: format version 0, this release reads 2"):
        read_bundle(bundle_folder)


def test_same_seed_same_weights(trained_runs: dict[str, Path], train_again: Callable[[str], TrainedRun]) -> None:
    """Two runs of the same configuration have the same weights, byte for byte."""
    first = load_run(trained_runs["din"]).net.state_dict()

    second = train_again("din").net.state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_net_of_other_sizes_does_not_load(trained_runs: dict[str, Path]) -> None:
    """Weights belong to their vocabulary sizes."""
    run = load_run(trained_runs["din"])
    sizes = {name: size + 1 for name, size in vocabulary_sizes(run.encoder).items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        build_net({"kind": "din"}, run.schema, sizes, file="t").load_state_dict(run.net.state_dict())
