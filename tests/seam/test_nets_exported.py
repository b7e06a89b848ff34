"""Every net and every option that changes a graph, through both exports' gates and into a runtime."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from model.bundle.schema import Schema, schema_from_table
from model.export import export_halves
from model.halves import EXPLAINED, ExportedHalves, eager_pctr
from model.native_weights import native_half
from model.nets import NETS, Net, build_net
from model.nets.interest import AttendedSum
from model.torchscript_export import export_torchscript

SIZES = {"city": 9, "item_id": 60, "brand": 7, "cate_id": 12}
OPTIONS = [
    *({"kind": kind} for kind in NETS),
    {"kind": "din", "softmax": True},
    {"kind": "din", "attention_kind": "bilinear"},
    {"kind": "dien", "attention_kind": "dot"},
    {"kind": "dien", "augru": "public"},
    {"kind": "dien", "residual": True},
]
# Whose ONNX graphs, seconds each, are no part of another's.
GRAPHS = [
    *({"kind": kind} for kind in ("wide_deep", "pnn", "gru_gru", "aigru", "agru")),
    {"kind": "dien", "augru": "public", "attention_kind": "bilinear", "residual": True},
]
NATIVE = [{"kind": "din"}, {"kind": "din", "softmax": True}, {"kind": "agru"}, {"kind": "dien"}]


@pytest.fixture(scope="module")
def schema() -> Schema:
    """Fields of several widths, dense ones among them."""
    table = {
        "keys": {"category": "cate_id"},
        "user": [{"name": "city", "dim": 5}, {"name": "age", "kind": "dense"}],
        "item": [{"name": "item_id", "dim": 6}, {"name": "brand", "dim": 3}, {"name": "cate_id", "dim": 4}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    }
    return schema_from_table(table, file="test")


def make_net(schema: Schema, **table: object) -> Net:
    """A net whose candidates differ in their scores."""
    torch.manual_seed(1)
    net = build_net({"head": [10, 6], **table}, schema, SIZES, file="test").eval()
    for name, tensor in net.state_dict().items():
        if "tables" in name or "cross" in name:
            tensor.normal_(std=0.5)
        elif name.endswith("share"):
            tensor.fill_(0.4)
    return net


def golden() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Four users with 0, 1, 3 and 6 behaviors, and five candidates each."""
    rng, lengths = np.random.default_rng(2), np.array([0, 1, 3, 6])
    history = rng.integers(1, 12, (4, 6, 2))
    history[np.arange(6) >= lengths[:, None]] = 0
    request = {
        "user_sparse": rng.integers(1, 9, (4, 1)),
        "user_dense": rng.normal(size=(4, 1)).astype(np.float32),
        "history": history,
        "history_len": lengths,
    }
    return request, {"item_sparse": rng.integers(1, 7, (4, 5, 3))}


@pytest.mark.parametrize("table", OPTIONS, ids=str)
def test_torchscript_passes_the_gate(schema: Schema, table: dict[str, object]) -> None:
    """It scores as the eager net does, at other sizes than the example's too, or the gate would raise."""
    net = make_net(schema, **table)
    check(export_torchscript(net, *golden()), net)


@pytest.mark.parametrize("table", GRAPHS, ids=str)
def test_onnx_passes_the_gate(schema: Schema, table: dict[str, object]) -> None:
    """The same of the ONNX graphs; `base`, `din` and `dien` are in test_export.py, `din_gru` is half of `gru_gru`."""
    net = make_net(schema, **table)
    check(export_halves(net, *golden()), net)


def check(exported: ExportedHalves, net: Net) -> None:
    """Candidates differ in their scores, sizes may be any number, and an explanation is of what made the scores.

    The gate has compared the graphs with the golden rows, to 1e-5.
    """
    assert exported.golden["pctr"].std() > 1e-3
    assert [spec.shape for spec in exported.candidate.outputs] == [("U", "C"), ("U", "C")]
    expected = reference(net)
    assert {name: exported.golden[name].shape for name in EXPLAINED if name in exported.golden} == {
        name: tuple(tensor.shape) for name, tensor in expected.items()
    }
    outputs = exported.explain.outputs if exported.explain else ()
    assert {spec.name: spec.shape for spec in outputs} == dict.fromkeys(expected, ("U", "C", "L"))
    padding = np.arange(6) >= np.array([0, 1, 3, 6])[:, None, None]
    for name, tensor in expected.items():
        np.testing.assert_allclose(exported.golden[name], tensor.numpy(), rtol=0, atol=1e-6)
        assert not (exported.golden[name] * padding).any()
    if expected and net.attention.softmax:
        np.testing.assert_allclose(exported.golden["attention"].sum(-1)[1:], 1, atol=1e-6)


def reference(net: Net) -> dict[str, Tensor]:
    """What the net computes while it scores the golden rows: its attention, and how far each step moves the state.

    The state after t steps is what the evolution gives for the first t behaviors.
    """
    seen: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}
    parts = {name: part for name, part in net.named_children() if name in ("attention", "evolution")}
    hooks = [
        part.register_forward_hook(lambda module, args, output, name=name: seen.update({name: (args, output)}))
        for name, part in parts.items()
    ]
    eager_pctr(net, *golden())
    for hook in hooks:
        hook.remove()
    found = {"attention": seen["attention"][1]} if "attention" in seen else {}
    if "evolution" in seen and not isinstance(net.evolution, AttendedSum):
        (inputs_ULG, weight_UCL, mask_UL), last_UCH = seen["evolution"]
        states = [torch.zeros_like(last_UCH)]
        for t in range(1, mask_UL.shape[1] + 1):
            with torch.inference_mode():
                states.append(net.evolution(inputs_ULG[:, :t], weight_UCL[..., :t], mask_UL[:, :t]))
        found["update"] = torch.stack([(after - before).norm(dim=-1) for before, after in pairwise(states)], dim=-1)
    return found


@pytest.mark.parametrize("table", OPTIONS, ids=str)
def test_what_no_kernel_knows_is_left_to_onnx_runtime(schema: Schema, table: dict[str, object]) -> None:
    """Weights for the native kernel are written for the nets and options that it computes, and for no others."""
    assert (native_half(make_net(schema, **table)) is not None) == (table in NATIVE)


def test_the_auxiliary_loss_is_not_in_the_graphs(schema: Schema) -> None:
    """With the same weights the graphs are the same bytes, with it or without it."""
    net = make_net(schema, kind="dien", auxiliary="mlp", auxiliary_alpha=0.5)
    without = make_net(schema, kind="dien", auxiliary="dot", auxiliary_alpha=0.0)
    shared = {n: t for n, t in net.state_dict().items() if not n.startswith("discriminator")}
    without.load_state_dict(shared)

    assert export_halves(net, *golden()).files == export_halves(without, *golden()).files
