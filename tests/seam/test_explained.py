"""An explanation online, from a bundle, and offline, from the bundle or the run: the same, and that of the net."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError, ConfigError, EncodeError
from model.bundle.folder import GOLDEN, Bundle, read_bundle, to_npz, write_bundle
from model.cli import main
from model.explain import explain_request, open_source
from model.halves import EXPLAINED
from model.publish import publish
from model.request import read_request
from model.run_folder import load_run
from service.app import create_app
from service.config import Settings
from service.loader import RUNTIMES, load
from service.runtimes.choice import choose_on_gpu
from service.runtimes.device import Device, DeviceRuntime
from service.runtimes.onnx import OneGraph, OnnxRuntime
from tests.online.conftest import running

KINDS = ["base", "din", "dien"]
REQUEST: dict[str, Any] = {
    "user_id": 3,
    "user": {"segment": "nobody"},
    "context": {"hour": 20},
    "history": [{"item_id": item} for item in (5, 9, 12, 40, 41, 5, 7, 100_000)],
    "candidates": [{"item_id": item} for item in [*range(90), 100_001]],
}
NUMBERS = ["pctr", "pctr_uncalibrated", "logit", "logit_without_history", "history_effect"]


async def ask(bundle: Path, request: dict[str, Any], **settings: object) -> Any:
    """The service's answer to one request."""
    chosen = {"bundle": str(bundle), "store": "memory://", "threads": 2, "deadline_ms": 10_000, **settings}
    async with running(create_app(Settings(**chosen))) as client:
        return await client.post("/score", json=request)


def offline(source: Path, request: dict[str, Any]) -> dict[str, Any]:
    """`explanation` by the code behind `ctr-model explain`."""
    opened = open_source(source)
    read = read_request(request, opened.encoder.schema, file="test")
    return explain_request(opened, read, now_ms=0)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Names and ids are equal, numbers to 1e-6."""
    assert found["behaviors"] == expected["behaviors"]
    assert found["unknown_features"] == expected["unknown_features"]
    for one, other in zip(found["candidates"], expected["candidates"], strict=True):
        assert one.keys() == other.keys()
        assert (one["item_id"], one["unknown_features"]) == (other["item_id"], other["unknown_features"])
        assert [one[name] for name in NUMBERS] == pytest.approx([other[name] for name in NUMBERS], abs=1e-6)
        for name in ("attention", "update"):
            assert (one[name] is None) == (other[name] is None)
            np.testing.assert_allclose(one[name] or [], [] if other[name] is None else other[name], rtol=0, atol=1e-6)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("runtime", ["onnx", "auto"])
async def test_online_and_offline_agree(
    kind: str, runtime: str, bundles: dict[str, Path], trained_runs: dict[str, Path]
) -> None:
    """The service, the bundle's graphs and the run's eager net say the same, whatever computes the scores."""
    answer = (await ask(bundles[kind], {**REQUEST, "explain": True}, explain_candidates=100, runtime=runtime)).json()
    found = answer["explanation"]

    assert len(found["behaviors"]) == answer["history_len"] == 8
    assert [row["pctr"] for row in answer["scores"]] == [one["pctr"] for one in found["candidates"]]
    assert found["unknown_features"] == ["segment"]
    assert found["behaviors"][-1]["unknown_features"] == ["item_id", "cate_id"]
    assert "item_id" in found["candidates"][-1]["unknown_features"]
    assert_same(found, offline(bundles[kind], REQUEST))
    assert_same(found, offline(trained_runs[kind], REQUEST))
    for one in found["candidates"]:
        assert one["attention"] is None or sum(one["attention"]) == pytest.approx(1, abs=1e-5)


def golden(bundle: Bundle) -> tuple[Tensors, Tensors]:
    """Golden requests and candidates."""
    items = {name: tensor for name, tensor in bundle.golden.items() if name.startswith("item_")}
    return {spec.name: bundle.golden[spec.name] for spec in bundle.manifest.user_half.inputs}, items


def without_explain(bundle: Bundle, root: Path) -> Path:
    """The bundle as an older release would have written it."""
    files = {name: raw for name, raw in bundle.files.items() if name != "explain.onnx"}
    old = {name: tensor for name, tensor in bundle.golden.items() if name not in EXPLAINED}
    return write_bundle(root, replace(bundle.manifest, explain=None), {**files, GOLDEN: to_npz(old)})


@pytest.mark.parametrize("kind", ["din", "dien"])
def test_weights_sum_to_1_and_padding_gets_nothing(kind: str, bundles: dict[str, Path]) -> None:
    """In the exported graph too: 1 for every candidate with a history, exactly 0 behind its end."""
    bundle = read_bundle(bundles[kind])
    assert bundle.manifest.explain is not None
    runtime, (request, items) = OnnxRuntime(bundle), golden(bundle)
    found = OneGraph(bundle, bundle.manifest.explain).run({**runtime.encode_user(request), **items})
    lengths = request["history_len"]

    assert found.keys() == ({"attention"} if kind == "din" else {"attention", "update"})
    padding = np.arange(request["history"].shape[1]) >= lengths[:, None, None]
    assert [float(np.abs(tensor * padding).max()) for tensor in found.values()] == [0.0] * len(found)
    sums = np.broadcast_to((lengths > 0)[:, None], items["item_sparse"].shape[:2])
    np.testing.assert_allclose(found["attention"].sum(-1), sums, atol=1e-6)


@pytest.mark.anyio
async def test_a_bundle_of_an_older_release_scores_and_says_that_it_cannot_explain(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    """Without the graph a net with attention is served as before; `explain` is a 409 that says what to do."""
    old = without_explain(read_bundle(bundles["din"]), tmp_path)
    plain, refused = await ask(old, REQUEST), await ask(old, {**REQUEST, "explain": True, "top_k": 3})

    assert plain.status_code == 200
    assert (refused.status_code, refused.json()["error_type"]) == (409, "conflict")
    assert "export the run again with `ctr-model export`" in refused.json()["error"]
    with pytest.raises(BundleError, match="has no graph that tells the attention; export the run again"):
        offline(old, REQUEST)


def test_a_net_without_attention_needs_no_graph(bundles: dict[str, Path]) -> None:
    """Its bundle has none, and is explained all the same: so bundles of older releases are too."""
    bundle = read_bundle(bundles["base"])

    assert bundle.manifest.explain is None
    assert "explain" not in json.loads(bundle.manifest.to_bytes())
    assert load(bundles["base"], max_candidates=4).explainer is not None


@pytest.mark.parametrize("name", EXPLAINED)
def test_golden_explanations_are_replayed(name: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    """A weight or a step that is off by 2e-5 refuses the bundle, and so does one that is missing."""
    bundle = read_bundle(bundles["dien"])
    off = {**bundle.golden, name: bundle.golden[name] + np.float32(2e-5)}
    less = {one: tensor for one, tensor in bundle.golden.items() if one != name}
    for number, tensors in enumerate((off, less)):
        path = write_bundle(tmp_path / str(number), bundle.manifest, {**bundle.files, GOLDEN: to_npz(tensors)})
        with pytest.raises(BundleError, match=rf"golden\.npz: (its {name} differs by 2|has no {name})"):
            load(path, max_candidates=4)
        assert load(path, max_candidates=4, explain=False).explainer is None


def test_every_runtime_explains_alike(bundles: dict[str, Path], trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """ONNX Runtime, the kernel, halves on a device, which are explained on the CPU, and TorchScript."""
    bundle = read_bundle(bundles["dien"])
    scripted = publish(
        load_run(trained_runs["dien"]), tmp_path, version="v1", code_version="test", export_format="torchscript"
    )
    on_device = partial(choose_on_gpu, device=Device(), max_candidates=10)
    loaded = [
        load(path, max_candidates=10, runtimes=dict.fromkeys(("onnx", "torchscript"), runtime) if runtime else RUNTIMES)
        for path, runtime in (
            (bundles["dien"], OnnxRuntime),
            (bundles["dien"], None),
            (bundles["dien"], on_device),
            (scripted, None),
            (scripted, on_device),
        )
    ]
    request, items = golden(bundle)
    told = [one.explainer.score(one.explainer.encode_user(request), items) for one in loaded if one.explainer]

    assert len(told) == len(loaded)
    assert [isinstance(one.runtime, DeviceRuntime) for one in loaded] == [False, False, True, False, True]
    for other in told[1:]:
        assert other.keys() == {"logit", "logit_without_history", "attention", "update"}
        for name, tensor in other.items():
            np.testing.assert_allclose(tensor, told[0][name], rtol=0, atol=1e-5)


def run_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit code, standard output and error of `ctr-model explain`."""
    monkeypatch.setattr("sys.argv", ["ctr-model", "explain", *arguments])  # what the console script reads
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_the_command(
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--json` prints the `explanation` of the answer; without it there is a table; options go before the file."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**REQUEST, "top_k": 2, "explain": True}))
    source = str(bundles["dien"])

    code, out, _ = run_command([source, "--request", str(file), "--json"], monkeypatch, capsys)
    assert code == 0
    assert_same(json.loads(out)["explanation"], offline(bundles["dien"], {**REQUEST, "top_k": 2}))

    monkeypatch.setenv("COLUMNS", "200")
    options = ["--user", "5", "--item", "42", "--item", "100001"]
    code, out, _ = run_command([source, "--request", str(file), *options], monkeypatch, capsys)
    assert code == 0
    assert re.search(r"for 42.*for 100001|for 100001.*for 42", out)
    assert "unknown of user and context: segment" in out

    code, out, _ = run_command([source, "--user", "5", "--item", "42"], monkeypatch, capsys)
    assert code == 0
    assert "for 42" not in out  # no history, no behaviors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": []}, "candidate: found 'candidate', allowed: one of user_id, candidates"),
        ({"candidates": []}, "candidates: found 'none', allowed: one or more with item_id"),
        ({"candidates": [{"item_id": 1}, {"cate_id": 1}]}, "rows of different fields"),
        ({"candidates": {"item_id": [1, 2], "price": [1.0]}}, "columns of different lengths"),
        ({"candidates": {"item_id": [-1]}}, "item_id: found -1, allowed: integers from 0"),
        ({"candidates": 3}, "candidates: found 3, allowed: a list of objects, or an object of lists"),
        ({"history": [{"item": 3}]}, "history.item: found 'item', allowed: one of item_id, cate_id, time"),
        ({"user": []}, "user: found [], allowed: an object"),
        ({"top_k": 0}, "top_k: found 0"),
    ],
    ids=str,
)
def test_a_wrong_request_is_named(change: dict[str, Any], message: str, bundles: dict[str, Path]) -> None:
    """Offline too the message names the key, what was found and what is allowed."""
    with pytest.raises((ConfigError, EncodeError)) as caught:
        offline(bundles["base"], {**REQUEST, **change})
    assert message in str(caught.value)


def test_the_command_names_what_is_missing(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line: no user, and a folder with neither a run nor a bundle."""
    code, _, err = run_command([str(bundles["base"]), "--item", "1"], monkeypatch, capsys)
    assert (code, "user_id" in err) == (2, True)
    code, _, err = run_command([str(bundles["base"].parent / "nothing"), "--user", "1"], monkeypatch, capsys)
    assert (code, "manifest.json" in err) == (2, True)
