"""A whole training step by the native nodes against the nets' own, and what is left to the nets."""

import pytest
import torch
from torch import Tensor, nn

from model.bundle.schema import Schema, schema_from_table
from model.nets import build_net
from model.nets.native.forward import native_forward, supports
from model.nets.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="the training kernels need a C++ compiler when installing")


@pytest.fixture
def schema() -> Schema:
    table = {
        "max_history": 6,
        "user": [{"name": "user_id", "dim": 4}],
        "item": [{"name": "item_id", "dim": 5}, {"name": "cate_id", "dim": 3}],
        "behavior": [{"shares": "item_id", "column": "a"}, {"shares": "cate_id", "column": "b"}],
        "keys": {"item": "item_id", "category": "cate_id"},
    }
    return schema_from_table(table, file="test")


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    count_U = torch.tensor([0, 6, 2, 1, 5])
    history_ULF = torch.randint(2, 9, (5, 6, 2), generator=generator) * (torch.arange(6) < count_U[:, None])[..., None]
    return {
        "user_sparse": torch.randint(1, 9, (5, 1), generator=generator),
        "item_sparse": torch.randint(1, 9, (5, 1, 2), generator=generator),
        "history": history_ULF,
        "history_len": count_U,
    }


SETTINGS = [
    {"kind": "din"},
    {"kind": "din", "softmax": True, "pooling": "sum", "attention": [7]},
    {"kind": "din_gru", "auxiliary_alpha": 0.5},
    {"kind": "gru_gru", "pooling": "sqrtn"},
    {"kind": "dien"},
    {"kind": "dien", "activation": "prelu", "attention": [9, 8, 7]},
    {"kind": "din", "factors": 3},
    {"kind": "dien", "factors": 3},
    {"kind": "dien", "residual": True},
    {"kind": "gru_gru", "residual": True},
]


@pytest.mark.parametrize("table", SETTINGS, ids=str)
def test_a_native_step_is_the_nets_step(schema: Schema, table: dict[str, object]) -> None:
    """Where `supports` says yes, logits, auxiliary loss and every gradient are those of encode_user and score."""
    torch.manual_seed(0)
    net = build_net(table, schema, {"user_id": 9, "item_id": 9, "cate_id": 9}, file="test").train()
    for name, tensor in net.state_dict().items():
        if name.endswith("share"):
            tensor.fill_(0.4)
    tensors, found = batch(), []
    negatives_ULF = tensors["history"].roll(1, 0) if table["kind"] in ("din_gru", "dien") else None
    assert supports(net, tensors)
    for native in (True, False):
        net.zero_grad()
        if native:
            logit, auxiliary = native_forward(net, tensors, negatives_ULF)  # type: ignore[arg-type]  # supported
        else:
            state = net.encode_user(tensors)
            logit, auxiliary = net.score(state, tensors), None
            if negatives_ULF is not None:
                auxiliary = net.auxiliary_loss(state, tensors["history"], negatives_ULF)  # type: ignore[union-attr]
        loss = (logit * torch.arange(5)[:, None]).sum() + (0 if auxiliary is None else auxiliary)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


OTHERS = [
    {"kind": "base"},
    {"kind": "aigru"},
    {"kind": "agru"},
    {"kind": "dien", "augru": "public"},
    {"kind": "dien", "auxiliary": "mlp"},
    {"kind": "din", "attention_kind": "dot"},
    {"kind": "din", "attention": [9, 8, 7, 6, 5]},
]


@pytest.mark.parametrize("table", OTHERS, ids=str)
def test_what_the_kernels_do_not_compute_is_left_to_the_net(schema: Schema, table: dict[str, object]) -> None:
    """`supports` says no to another attention, update or auxiliary loss, and to more layers than there is room for."""
    net = build_net(table, schema, {"user_id": 9, "item_id": 9, "cate_id": 9}, file="test").train()
    assert not supports(net, batch())


def test_a_net_with_a_part_that_the_kernels_do_not_know_is_left_alone(schema: Schema) -> None:
    """A module added to a net later is not silently dropped."""
    net = build_net({"kind": "din"}, schema, {"user_id": 9, "item_id": 9, "cate_id": 9}, file="test").train()
    net.add_module("something_new", nn.Linear(1, 1))
    assert not supports(net, batch())
