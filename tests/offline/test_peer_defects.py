"""What is wrong in other libraries' DIN and DIEN (deepctr-torch, torch-rechub, FuxiCTR, the public code), not here."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from model.bundle.padding import pad_history
from model.bundle.schema import Schema, schema_from_table
from model.bundle.vocabulary import Vocabulary
from model.config import RunConfig
from model.data.batches import encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.evaluate import predict
from model.metrics import auc
from model.nets import Net, build_net
from model.nets.augru import Augru
from model.nets.layers import Dice
from model.pipeline import prepare, run_training
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples

SIZES = {"item_id": 50, "cate_id": 10}
KINDS = ["din", "din_gru", "gru_gru", "aigru", "agru", "dien"]
RECURRENT = KINDS[1:]


@pytest.fixture(scope="module")
def schema() -> Schema:
    """Items of width 2 and categories of width 2."""
    table = {
        "keys": {"category": "cate_id"},
        "item": [{"name": "item_id", "dim": 2}, {"name": "cate_id", "dim": 2}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    }
    return schema_from_table(table, file="test")


@pytest.fixture(scope="module")
def samples(small_log: Log) -> Samples:
    """The small synthetic log, with negatives."""
    encoder = fit_encoder(small_log, synthetic_schema())
    splits = {name: encode_split(getattr(small_log, name), encoder) for name in ("train", "valid")}
    return Samples(**splits, sampler=NegativeSampler(encoder))


@pytest.fixture(scope="module")
def sizes(small_log: Log) -> dict[str, int]:
    """Rows of the small log's tables."""
    return dict(vocabulary_sizes(fit_encoder(small_log, synthetic_schema())))


def make_net(schema: Schema, kind: str, **settings: object) -> Net:
    """A small net whose embeddings are large enough that a mistake shows."""
    torch.manual_seed(3)
    net = build_net({"kind": kind, "head": [8], "attention": [6], **settings}, schema, SIZES, file="test")
    for table in net.embedding.tables.values():
        nn.init.normal_(table.weight[2:])
    return net


def batch(lengths: list[int], *, width: int = 0) -> dict[str, Tensor]:
    """One user and one candidate per length; the same ones in every call."""
    rng = np.random.default_rng(5)
    length = max(*lengths, width, 1)
    history = rng.integers(2, 10, (len(lengths), length, 2))
    items = rng.integers(2, 10, (len(lengths), 1, 2))
    history[np.arange(length) >= np.array(lengths)[:, None]] = 0
    arrays = {"history": history, "history_len": np.array(lengths), "item_sparse": items}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def negatives(tensors: dict[str, Tensor]) -> Tensor:
    """Some behavior other than the real one at every real position."""
    return torch.where(tensors["history"] > 0, 11 - tensors["history"], 0).clamp(max=9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[0, 0, 0], [0], [4], [0, 4, 0]], ids=str)
def test_any_mix_of_histories_trains(schema: Schema, kind: str, lengths: list[int]) -> None:
    """deepctr-torch raises on all-empty batches, FuxiCTR on one row, one non-empty history and all-empty.

    Here loss, auxiliary loss included, and gradients are finite for each.
    """
    auxiliary = {"auxiliary_alpha": 1.0, "auxiliary": "mlp"} if kind in RECURRENT else {}
    net, tensors = make_net(schema, kind, **auxiliary).train(), batch(lengths)
    state = net.encode_user(tensors)
    loss = net.score(state, tensors).sum()
    if auxiliary:
        loss = loss + net.auxiliary_loss(state, tensors["history"], negatives(tensors))
    loss.backward()

    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_alpha_means_the_same_at_any_batch_size(schema: Schema) -> None:
    """deepctr-torch sums the click loss and averages the auxiliary one; here a doubled batch doubles neither."""
    net, tensors = make_net(schema, "dien"), batch([3, 2, 4])
    twice = {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}

    once, doubled = (
        net.auxiliary_loss(net.encode_user(one), one["history"], negatives(one)) for one in (tensors, twice)
    )

    torch.testing.assert_close(doubled, once)
    assert once > 0


def test_the_auxiliary_mean_leaves_padding_out(schema: Schema) -> None:
    """The public code divides by all positions; here wider padding and empty histories beside it change nothing."""
    net = make_net(schema, "dien")
    close, wide = batch([3, 2]), batch([3, 2])
    wide["history"] = nn.functional.pad(wide["history"], (0, 0, 0, 40, 0, 5))
    wide["history_len"] = nn.functional.pad(wide["history_len"], (0, 5))

    losses = [net.auxiliary_loss(net.encode_user(b), b["history"], negatives(b)) for b in (close, wide)]

    torch.testing.assert_close(losses[1], losses[0])


def test_the_auxiliary_loss_by_hand(schema: Schema) -> None:
    """Two steps on paper: h_1 = (1, 0), h_2 = (0, 2); real logits 0.5 and 2, sampled -1 and 1.

    [softplus(-0.5) + softplus(-1) + softplus(-2) + softplus(1)] / 2 = (0.474077 + 0.313262 + 0.126928 + 1.313262) / 2
    """
    net = make_net(schema, "dien")
    with torch.no_grad():
        net.embedding.tables["cate_id"].weight.zero_()
        net.embedding.tables["item_id"].weight[2:6] = torch.tensor([[0.5, 7.0], [9.0, 1.0], [-1.0, 3.0], [8.0, 0.5]])
    states = torch.tensor([[[1.0, 0, 0, 0, 1], [0, 2.0, 0, 0, 1], [5.0, 5.0, 0, 0, 1], [6.0, 6.0, 0, 0, 1]]])
    state = {"state_keys": states, "state_mask": torch.tensor([[1.0, 1, 1, 0]])}
    history = torch.tensor([[[2, 2], [2, 2], [3, 2], [0, 0]]])
    sampled = torch.tensor([[[4, 2], [4, 2], [5, 2], [0, 0]]])

    loss = net.auxiliary_loss(state, history, sampled)

    assert float(loss.detach()) == pytest.approx(1.1137645, abs=1e-6)


def test_the_two_biases_are_two_parameters() -> None:
    """deepctr-torch's AUGRU adds one tensor as both biases, so the reset gate cannot scale one of them alone."""
    augru = Augru(3, 3)

    assert augru.input_bias.data_ptr() != augru.hidden_bias.data_ptr()
    assert not torch.equal(augru.input_bias, augru.hidden_bias)
    assert {"input_bias", "hidden_bias"} <= dict(augru.named_parameters()).keys()


def test_dien_learns_from_its_own_initial_weights(samples: Samples, sizes: dict[str, int]) -> None:
    """deepctr-torch's initial standard deviation of 1e-4 leaves DIEN at AUC 0.5; here it learns what it is shown."""
    torch.manual_seed(0)
    net = build_net({"kind": "dien"}, synthetic_schema(), sizes, file="test")

    train(net, dataclasses.replace(samples, valid=samples.train), config=TrainConfig(epochs=6, batch_size=128))

    assert auc(samples.train.label, predict(net, samples.train)) > 0.65


def test_large_ids_do_not_collide() -> None:
    """deepctr-torch passes ids through float32, where 2^24 + 1 is 2^24; here each has its own row."""
    ids = np.array([2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**62], dtype=np.int64)

    assert Vocabulary(ids).lookup(ids).tolist() == [2, 3, 4, 5, 6]


def test_dice_does_not_see_padding(schema: Schema) -> None:
    """deepctr-torch's batch norm inside the attention counts padding; here more of it changes no running statistic."""
    seen = []
    for width in (4, 60):
        net, tensors = make_net(schema, "din", activation="dice").train(), batch([4, 2, 1])
        tensors["history"] = nn.functional.pad(tensors["history"], (0, 0, 0, width - 4))
        net(tensors, tensors)
        (dice,) = [layer for layer in net.modules() if isinstance(layer, Dice)]
        seen.append(torch.cat([dice.mean, dice.variance]))

    torch.testing.assert_close(seen[1], seen[0])


def test_dice_normalises_a_feature_over_the_batch() -> None:
    """torch-rechub's takes mean and variance over the features of one row; here a constant feature has p = 0.5."""
    dice = Dice(2).train()
    x = torch.tensor([[7.0, 1.0], [7.0, -1.0]])

    out = dice(x)

    torch.testing.assert_close(out[:, 0], torch.full((2,), 7.0 * 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(dice.mean, torch.tensor([0.7, 0.0]))


@pytest.mark.parametrize("softmax", [False, True])
def test_attention_is_masked(schema: Schema, softmax: bool) -> None:
    """torch-rechub gives padding weight; here it is exactly 0, whatever embedding stands there."""
    net, tensors = make_net(schema, "din", softmax=softmax).eval(), batch([2], width=5)
    state = net.encode_user(tensors)
    weights = net.attention(net.embedding.target(tensors), state["state_keys"] + 3, state["state_mask"])

    assert (weights[0, 0, :2] != 0).all()
    assert (weights[0, 0, 2:] == 0).all()


def test_attention_sees_item_and_category_together(schema: Schema) -> None:
    """torch-rechub attends per field; here the weight of a behavior changes with its category, at the same item."""
    net, tensors = make_net(schema, "din").eval(), batch([1])
    other = {**tensors, "history": tensors["history"] + torch.tensor([0, 1])}
    weights = []
    for one in (tensors, other):
        state = net.encode_user(one)
        weights.append(net.attention(net.embedding.target(one), state["state_keys"], state["state_mask"]))

    assert weights[0].shape == (1, 1, 1)
    assert weights[0] != weights[1]


def test_the_best_weights_come_back(samples: Samples, sizes: dict[str, int]) -> None:
    """torch-rechub keeps the last weights; here the net has the best validation AUC that was seen."""
    torch.manual_seed(0)
    net = build_net({"kind": "base", "head": [16]}, synthetic_schema(), sizes, file="test")

    result = train(net, samples, config=TrainConfig(epochs=5, batch_size=64, learning_rate=0.3, patience=9))

    seen = [evaluation["auc"] for evaluation in result.evaluations]
    assert seen[-1] < max(seen) == auc(samples.valid.label, predict(net, samples.valid))


def test_the_best_weights_are_chosen_without_the_test_split(small_config: RunConfig, small_log: Log) -> None:
    """The public code picks its checkpoint on test; here a run has the same weights whatever its test split says."""
    config = dataclasses.replace(small_config, schema=synthetic_schema(), net={"kind": "base", "head": [8]})
    opposite = small_log.test.with_columns(1 - pl.col(synthetic_schema().keys.label))
    logs = [small_log, dataclasses.replace(small_log, test=opposite)]
    first, second = (run_training(log, prepare(log, config), config)[0].net.state_dict() for log in logs)

    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_only_one_side_is_ever_padded(schema: Schema, kind: str) -> None:
    """torch-rechub's DIEN needs padding behind while its padder pads in front; our one padder pads behind, the nets
    read the length, and what stands in the padding cannot matter.
    """
    padded = pad_history(np.array([[2, 3], [4, 5], [6, 7]]), np.array([1, 2]))
    assert padded["history"][0].tolist() == [[2, 3], [0, 0]]
    net, tensors = make_net(schema, kind).eval(), batch([3, 1], width=6)
    rubbish = {**tensors, "history": tensors["history"].clone()}
    rubbish["history"][0, 3:], rubbish["history"][1, 1:] = 9, 9

    torch.testing.assert_close(net(rubbish, rubbish), net(tensors, tensors), atol=1e-6, rtol=0)


def test_attention_0_keeps_the_state() -> None:
    """The public code's u = (1-a)u, h = u h + (1-u) c still updates at a = 0; ours does not, unless it is asked to."""
    torch.manual_seed(0)
    paper, public = Augru(4, 4), Augru(4, 4, update="public")
    public.load_state_dict(paper.state_dict())
    interest, mask, weight = torch.randn(1, 3, 4), torch.ones(1, 3), torch.tensor([[[0.7, 0.0, 0.0]]])

    states = [
        augru(augru.inputs(interest)[:, :length], weight[..., :length], mask[:, :length])
        for augru in (paper, public)
        for length in (1, 3)
    ]

    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[2], states[3], atol=1e-3)
