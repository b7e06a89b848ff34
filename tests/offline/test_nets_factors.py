"""The factor term against its formula, its penalty by hand, and the nets that have it through both exports."""

import numpy as np
import pytest
import torch

from model.batch_loss import BatchLoss
from model.bundle.schema import Schema, schema_from_table
from model.export import export_halves
from model.native_weights import native_half
from model.nets import NETS, Net, build_net
from model.nets.factors import Factors
from model.torchscript_export import export_torchscript
from model.train_config import TrainConfig

SIZES = {"user_id": 9, "item_id": 20, "cate_id": 6}
K = 3


@pytest.fixture(scope="module")
def schema() -> Schema:
    """A user id, an item with its category, and the history of both."""
    table = {
        "keys": {"category": "cate_id"},
        "user": [{"name": "user_id", "dim": 5}, {"name": "age", "kind": "dense"}],
        "item": [{"name": "item_id", "dim": 6}, {"name": "cate_id", "dim": 4}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    }
    return schema_from_table(table, file="test")


def rows() -> dict[str, np.ndarray]:
    """Four users with 0, 1, 3 and 6 behaviors, and two candidates each."""
    rng, lengths = np.random.default_rng(2), np.array([0, 1, 3, 6])
    history = rng.integers(2, 6, (4, 6, 2))
    history[np.arange(6) >= lengths[:, None]] = 0
    return {
        "user_sparse": rng.integers(2, 9, (4, 1)),
        "user_dense": rng.normal(size=(4, 1)).astype(np.float32),
        "history": history,
        "history_len": lengths,
        "item_sparse": rng.integers(2, 6, (4, 2, 2)),
    }


def with_factors(schema: Schema, kind: str, *, l2: float = 0.01) -> tuple[Net, Factors]:
    """A net in inference mode whose tables are far from zero."""
    torch.manual_seed(1)
    net = build_net({"kind": kind, "factors": K, "factor_l2": l2}, schema, SIZES, file="test").eval()
    for name, tensor in net.state_dict().items():
        if "tables" in name:
            tensor[1:].normal_(std=0.5)
    assert net.factors is not None
    return net, net.factors


@pytest.mark.parametrize("kind", NETS)
def test_the_term_is_that_of_svd_plus_plus(schema: Schema, kind: str) -> None:
    """b_u + b_i + (p_u + sum y_j / n) . q_i is what a net with factors adds to the one without, row by row."""
    net, factors = with_factors(schema, kind)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in rows().items()}
    ids, past = ({n: t.weight.detach() for n, t in side.tables.items()} for side in (factors.ids, factors.past))

    found = net(tensors, tensors)
    net.factors = None
    found = found - net(tensors, tensors)

    for u in range(4):
        user = ids["user_id"][tensors["user_sparse"][u, 0]]
        n = int(tensors["history_len"][u])
        y = torch.zeros(K)
        for item, category in tensors["history"][u, :n].tolist():
            y += (past["item_id"][item] + past["cate_id"][category]) / n
        for c, (item, category) in enumerate(tensors["item_sparse"][u].tolist()):
            candidate = ids["item_id"][item] + ids["cate_id"][category]
            expected = user[K] + candidate[K] + (user[:K] + y) @ candidate[:K]
            assert found[u, c].item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_penalty_is_the_mean_squared_length_of_the_rows(schema: Schema) -> None:
    """Per impression: the user's row, the item's and the category's, biases included; behaviors are left out."""
    _, factors = with_factors(schema, "base", l2=0.5)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in rows().items()}
    one = {name: tensor[:1] for name, tensor in tensors.items()} | {"item_sparse": tensors["item_sparse"][:1, :1]}
    item, category = one["item_sparse"][0, 0].tolist()
    tables = {name: table.weight for name, table in factors.ids.tables.items()}
    user = tables["user_id"][one["user_sparse"][0, 0]]

    expected = 0.5 * sum(row.square().sum() for row in (user, tables["item_id"][item], tables["cate_id"][category]))

    assert factors.penalty(one).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["base", "din", "dien"])
def test_training_adds_the_penalty_once(schema: Schema, kind: str) -> None:
    """The loss of a batch with the penalty is the one without plus the penalty, through native code or not."""
    batch = {**rows(), "label": np.array([0, 1, 1, 0], dtype=np.float32)}
    batch["item_sparse"] = batch["item_sparse"][:, :1]
    net, factors = with_factors(schema, kind, l2=0.25)
    loss = BatchLoss(net, TrainConfig(), sampler=None)

    penalised = loss(batch, np.random.default_rng(0))
    factors.l2 = 0.0
    plain = loss(batch, np.random.default_rng(0))
    factors.l2 = 0.25

    tensors = {name: torch.from_numpy(tensor) for name, tensor in batch.items()}
    assert (penalised - plain).item() == pytest.approx(factors.penalty(tensors).item(), rel=1e-4)
    assert penalised > plain


@pytest.mark.parametrize("kind", ["din", "dien"])
def test_both_formats_pass_the_gate(schema: Schema, kind: str) -> None:
    """A net with factors exports; no native kernel knows them, so ONNX Runtime serves it."""
    net, _ = with_factors(schema, kind)
    golden = rows()
    candidates = {"item_sparse": golden.pop("item_sparse")}

    export_halves(net, golden, candidates)
    export_torchscript(net, golden, candidates)

    assert native_half(net) is None
