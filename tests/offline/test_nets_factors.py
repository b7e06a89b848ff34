"""The factor term against its formula, its penalty by hand, and the nets that have it through both exports."""

import numpy as np
import pytest
import torch

from model.batch_loss import BatchLoss
from model.bundle.errors import ConfigError
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


def with_factors(schema: Schema, kind: str) -> tuple[Net, Factors]:
    """A net in inference mode whose tables are far from zero."""
    torch.manual_seed(1)
    net = build_net({"kind": kind, "factors": K}, schema, SIZES, file="test").eval()
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
        for item, _ in tensors["history"][u, :n].tolist():
            y += past["item_id"][item] / n
        for c, (item, _) in enumerate(tensors["item_sparse"][u].tolist()):
            candidate = ids["item_id"][item]
            expected = user[K] + candidate[K] + (user[:K] + y) @ candidate[:K]
            assert found[u, c].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("kind", ["base", "din", "dien"])
def test_training_shrinks_what_an_impression_looks_up(schema: Schema, kind: str) -> None:
    """`train.lookup_l2` times the mean, over impressions, of the squared rows of user, item and category, in the net's
    tables and in the factors' (biases included). Behaviors are left out.
    """
    batch = {**rows(), "label": np.array([0, 1, 1, 0], dtype=np.float32)}
    batch["item_sparse"] = batch["item_sparse"][:, :1]
    net, factors = with_factors(schema, kind)
    plain, shrunk = (
        BatchLoss(net, TrainConfig(lookup_l2=l2), sampler=None)(batch, np.random.default_rng(0)) for l2 in (0.0, 0.25)
    )

    expected = 0.0
    for tables in (net.embedding.tables, factors.ids.tables):
        for u in range(4):
            item, category = batch["item_sparse"][u, 0].tolist()
            ids = {"user_id": int(batch["user_sparse"][u, 0]), "item_id": item, "cate_id": category}
            rows_ = [tables[n].weight[i].detach() for n, i in ids.items() if n in tables]
            expected += 0.25 * sum(row.square().sum().item() for row in rows_) / 4

    assert (shrunk - plain).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["din", "dien"])
def test_both_formats_pass_the_gate(schema: Schema, kind: str) -> None:
    """A net with factors exports; no native kernel knows them, so ONNX Runtime serves it."""
    net, _ = with_factors(schema, kind)
    golden = rows()
    candidates = {"item_sparse": golden.pop("item_sparse")}

    export_halves(net, golden, candidates)
    export_torchscript(net, golden, candidates)

    assert native_half(net) is None


def test_factors_need_the_items_of_the_history() -> None:
    """A history of categories alone has no item whose factors could be averaged."""
    table = {
        "keys": {"category": "cate_id"},
        "item": [{"name": "item_id"}, {"name": "cate_id"}],
        "behavior": [{"shares": "cate_id", "column": "c"}],
    }
    with pytest.raises(
        ConfigError, match=r"net\.factors: found 3, allowed: 0, or a schema\.behavior that shares item_id"
    ):
        build_net({"kind": "base", "factors": K}, schema_from_table(table, file="test"), SIZES, file="test")
