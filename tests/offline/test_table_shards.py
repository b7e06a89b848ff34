"""Tables divided among ranks, as far as it shows in one process: the update of a part, and what is refused."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.bundle.errors import ConfigError
from model.bundle.schema import PADDING
from model.checkpoint import Snapshot
from model.data.batches import encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import NETS, Net, build_net
from model.nets.interest import InterestNet
from model.optimizer import NetOptimizer, sparse_gradients, trained_tables
from model.ranks import Ranks
from model.run_folder import vocabulary_sizes
from model.table_shards import ShardedTable, own_snapshot, wanted_ids
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples

ROWS, WIDTH, CUT = 12, 3, 5
BATCHES = [torch.tensor([[1, 3, 3], [5, 1, 1]]), torch.tensor([[4, 3, 3], [3, 0, 3]]), torch.tensor([[1, 7, 9]])]
CONFIG = TrainConfig(clip_norm=1e-3, embedding_l2=0.1, embedding_learning_rate=0.05)
IMPRESSIONS = {"items": torch.arange(1, ROWS + 1)}


class Lookup(nn.Module):
    """One table looked up twice, as history and candidate do, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.items: nn.Embedding | ShardedTable = nn.Embedding(ROWS, WIDTH, padding_idx=0)
        self.layer = nn.Linear(WIDTH, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.items(ids).sum(1) * self.items(ids[:, 0])).square().mean()


def new_lookup() -> Lookup:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return Lookup()


def optimizer_of(net: Lookup, config: TrainConfig) -> NetOptimizer:
    return NetOptimizer(net, config, steps_per_epoch=len(BATCHES), impressions=IMPRESSIONS, max_norm=0.9)


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_parts_are_updated_as_the_whole_table(kind: str) -> None:
    """Two parts that are given the rows of each batch end as the table does bit for bit, with clipping, regularisation
    and a bound on lengths.
    """
    config, whole = dataclasses.replace(CONFIG, embedding_optimizer=kind), new_lookup()
    optimizer, nets, tables = optimizer_of(whole, config), [new_lookup(), new_lookup()], []
    for net, part in zip(nets, (slice(0, CUT), slice(CUT, ROWS)), strict=True):
        rows = net.items.weight.detach()[part].clone()
        net.items = ShardedTable(rows, start=part.start, rows=ROWS)
        tables.append(net.items)
    optimizers = [optimizer_of(net, config) for net in nets]
    before = whole.items.weight.detach().clone()

    with sparse_gradients(whole):
        for batch in BATCHES:
            optimizer.step(whole(batch))
            ids = torch.cat([torch.zeros(1, dtype=torch.int64), batch.flatten()]).unique()
            vectors = torch.cat([table.weight for table in tables])[ids]
            for net, part in zip(nets, optimizers, strict=True):
                net.items.take(ids, vectors)
                part.step(net(batch))

    assert not torch.equal(before, whole.items.weight)
    assert torch.equal(torch.cat([table.weight for table in tables]), whole.items.weight)
    assert all(torch.equal(net.layer.weight, whole.layer.weight) for net in nets)


@pytest.mark.parametrize("kind", NETS)
def test_every_id_that_a_net_looks_up_is_fetched(small_log: Log, kind: str) -> None:
    """A row that was not fetched would be another id's: of every table the ids that the net looks up, in forward and in
    the auxiliary loss, are those that are sent for, padding among them.
    """
    more = {} if kind == "pnn" else {"factors": 2}
    net, samples = material(small_log, Ranks(), kind=kind, **more)
    batch, rng = samples.train.take(np.arange(7)), np.random.default_rng(0)
    tensors = {name: torch.from_numpy(tensor) for name, tensor in batch.items()}
    negatives = torch.from_numpy(samples.sampler.sample(batch["history"], batch["history_len"], rng))
    seen: dict[str, list[Tensor]] = {name: [torch.zeros(1, dtype=torch.int64)] for name in trained_tables(net)}
    for name, table in trained_tables(net).items():
        table.register_forward_pre_hook(lambda _, ids, name=name: seen[name].append(ids[0].flatten()))

    state = net.encode_user(tensors)
    net.score(state, tensors)
    if isinstance(net, InterestNet):
        net.auxiliary_loss(state, tensors["history"], negatives)

    for name, ids in seen.items():
        wanted = wanted_ids(net, name, tensors, negatives if isinstance(net, InterestNet) else None)
        assert set(torch.cat(ids).tolist()) <= set(wanted.tolist()), name
        assert wanted.tolist() == sorted(set(wanted.tolist()))
        assert wanted[0] == PADDING


def test_a_rank_without_a_batch_sends_for_padding_alone(small_log: Log) -> None:
    """It has to take part in the exchange."""
    net, _ = material(small_log, Ranks())

    assert wanted_ids(net, "embedding.tables.item_id", {}, None).tolist() == [PADDING]


def test_a_rank_takes_its_rows_of_a_checkpoint() -> None:
    """Of weights, best weights and moments of a divided table; everything else is as it was."""
    net = new_lookup()
    net.items = ShardedTable(torch.zeros(4, WIDTH), start=CUT, rows=ROWS)
    whole = torch.arange(ROWS * WIDTH).view(ROWS, WIDTH)
    of_rows = ("net.items.weight", "best.items.weight", "optimizer.rows.items.second")
    others = {"optimizer.rows.items.steps": torch.tensor(3), "net.layer.weight": torch.ones(ROWS, WIDTH)}

    own = own_snapshot(net, Snapshot(tensors={**dict.fromkeys(of_rows, whole), **others}, place={"batch": 1}))

    assert own.place == {"batch": 1}
    for name in of_rows:
        assert torch.equal(own.tensors[name], whole[CUT : CUT + 4])
    for name, tensor in others.items():
        assert own.tensors[name] is tensor


def material(log: Log, ranks: Ranks, kind: str = "base", **settings: object) -> tuple[Net, Samples]:
    """A small net, the same every time, and rows for it."""
    encoder = fit_encoder(log, synthetic_schema())
    torch.manual_seed(0)
    net = build_net({"kind": kind, "head": [8], **settings}, synthetic_schema(), vocabulary_sizes(encoder), file="test")
    train_split, valid = encode_split(log.train[:256], encoder), encode_split(log.valid, encoder)
    return net, Samples(train=train_split, valid=valid, sampler=NegativeSampler(encoder), ranks=ranks)


def test_one_process_keeps_whole_tables(small_log: Log) -> None:
    """The same weights bit for bit, with or without the package."""
    states = []
    for rows in (0, 1):
        net, samples = material(small_log, Ranks())
        train(net, samples, config=TrainConfig(epochs=1, batch_size=64, sharded_rows=rows))
        states.append(net.state_dict())

    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("setting", [{"embedding_optimizer": "dense_adam"}, {"compile": True}])
def test_what_does_not_go_with_it_is_refused(small_log: Log, setting: dict[str, object]) -> None:
    """The error names the setting, before anything is sent."""
    net, samples = material(small_log, Ranks(0, 2))

    with pytest.raises(ConfigError, match=rf"train\.{next(iter(setting))}.*train\.sharded_rows"):
        train(net, samples, config=TrainConfig(sharded_rows=1, **setting))


@pytest.mark.skipif(find_spec("torchrec") is not None, reason="TorchRec is installed")
def test_without_torchrec_the_error_says_what_to_install(small_log: Log) -> None:
    """It names the setting, the module that is missing and the extra."""
    net, samples = material(small_log, Ranks(0, 2))

    with pytest.raises(ConfigError, match=r"train\.sharded_rows.*torchrec.*ctr-scorer\[torchrec\]"):
        train(net, samples, config=TrainConfig(sharded_rows=1))
