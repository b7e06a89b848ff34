"""Mini-batch aware regularisation against DIN's equations 4 to 6, on a case small enough to print."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.optimizer import NetOptimizer, sparse_gradients
from model.regularisation import count_impressions, impressions_by_table, l2_gradient
from model.run_folder import vocabulary_sizes
from model.train_config import TrainConfig

SCHEMA = Schema(
    item=(Feature(name="item_id"), Feature(name="cate_id")),
    behavior=(Sequence(shares="item_id", column="items"),),
    keys=Keys(category="cate_id"),
)
# Four impressions: candidate (item, category) and history of items.
#   0: (2, 2) after 3, 3     1: (3, 2) after nothing     2: (2, 3) after 2     3: (4, 2) after 3, 2
SPLIT = EncodedSplit(
    label=np.zeros(4, dtype=np.float32),
    user=np.arange(4),
    timestamp=np.arange(4),
    request={},
    items={"item_sparse": np.array([[2, 2], [3, 2], [2, 3], [4, 2]])},
    history=np.array([[3], [3], [2], [3], [2]]),
    offsets=np.array([0, 2, 2, 3, 5]),
)


def test_impressions_are_counted_once_each() -> None:
    """Item 2 is in impressions 0, 2 (twice) and 3; item 3 in 0 (twice), 1 and 3; item 4 in 3; categories 2: 0, 1, 3."""
    assert [0, 0, 3, 3, 1, 0] == count_impressions(SPLIT, SCHEMA, "item_id", size=6).tolist()
    assert [0, 0, 3, 1] == count_impressions(SPLIT, SCHEMA, "cate_id", size=4).tolist()


def test_counts_of_a_log_agree_with_a_plain_loop(small_log: Log) -> None:
    """Every feature of every side, and the behaviors, against Python sets."""
    schema = synthetic_schema()
    encoder = fit_encoder(small_log, schema)
    split, sizes = encode_split(small_log.train, encoder), vocabulary_sizes(encoder)

    counted = impressions_by_table(split, schema, sizes)

    assert set(sizes) == set(counted)
    for name, size in sizes.items():
        expected = [0] * size
        for row in range(len(split)):
            for index in indices_of(split, schema, name, row):
                expected[index] += 1
        assert expected == counted[name].tolist(), name


def indices_of(split: EncodedSplit, schema: Schema, name: str, row: int) -> set[int]:
    met = set()
    for side, tensors in (("user", split.request), ("context", split.request), ("item", split.items)):
        names = [f.name for f in schema.sparse(side)]
        if name in names:
            met.add(int(tensors[f"{side}_sparse"][row, names.index(name)]))
    shared = [s.shares for s in schema.behavior]
    if name in shared:
        met |= {int(i) for i in split.history[split.offsets[row] : split.offsets[row + 1], shared.index(name)]}
    return met


def test_equation_6_by_hand() -> None:
    """Strength 0.6: w = (1, -2) of an id in 3 impressions adds 0.2 w, one in 1 impression adds 0.6 w."""
    weight = torch.tensor([[1.0, -2.0], [1.0, -2.0], [1.0, -2.0]])

    added = l2_gradient(weight, torch.tensor([3, 1, 0]), strength=0.6)

    torch.testing.assert_close(torch.tensor([[0.2, -0.4], [0.6, -1.2], [0.6, -1.2]]), added)


@pytest.mark.parametrize("kind", ["adam", "adagrad", "dense_adam"])
def test_a_step_shrinks_the_rows_it_touches_and_no_other(kind: str) -> None:
    """With no gradient from the loss, Adam's first moment after one step is 0.1 * strength / n_j * w_j; Adagrad's sum
    the square of that gradient. Rows outside the batch have none.
    """
    net = nn.ModuleDict({"item_id": nn.Embedding(6, 1, padding_idx=0), "layer": nn.Linear(1, 1)})
    nn.init.constant_(net["item_id"].weight, 2.0)
    config = TrainConfig(embedding_optimizer=kind, embedding_l2=0.3)
    counts = {"item_id": torch.from_numpy(count_impressions(SPLIT, SCHEMA, "item_id", size=6))}
    optimizer = NetOptimizer(net, config, steps_per_epoch=1, impressions=counts)

    with sparse_gradients(net):
        optimizer.step(net["item_id"](torch.tensor([2, 4, 2, 0])).sum() * 0)

    gradient = [0, 0, 0.3 / 3 * 2, 0, 0.3 / 1 * 2, 0]
    expected, name = {
        "adam": ([0.1 * g for g in gradient], "rows.item_id.first"),
        "adagrad": ([g * g for g in gradient], "rows.item_id.second"),
        "dense_adam": ([0.1 * g for g in gradient], "dense.item_id.exp_avg"),
    }[kind]
    assert expected == pytest.approx(optimizer.state()[name][:, 0].tolist())
    assert [2.0] * 4 == net["item_id"].weight[[0, 1, 3, 5], 0].tolist()


def test_an_epoch_shrinks_every_id_alike() -> None:
    """Eq. 4: over the batches of an epoch the weights 1 / n_j of an id sum to 1, as plain L2 would weigh it."""
    counts = torch.from_numpy(count_impressions(SPLIT, SCHEMA, "item_id", size=6))
    total = torch.zeros(6)
    for row in range(4):  # batches of one impression
        rows = torch.tensor(sorted(indices_of(SPLIT, SCHEMA, "item_id", row)))
        total[rows] += l2_gradient(torch.ones(len(rows), 1), counts[rows], strength=1.0)[:, 0]

    torch.testing.assert_close(torch.tensor([0, 0, 1.0, 1.0, 1.0, 0]), total)


def test_a_split_without_behaviors_is_counted_too() -> None:
    """No history columns: candidates alone."""
    schema = dataclasses.replace(SCHEMA, behavior=())
    split = dataclasses.replace(SPLIT, history=np.empty((0, 0), dtype=np.int64), offsets=np.zeros(5, dtype=np.int64))

    assert [0, 0, 2, 1, 1] == count_impressions(split, schema, "item_id", size=5).tolist()
