"""The update of a step: only touched rows of a table move, and torch's own optimisers agree where they do the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.optimizer import NetOptimizer, sparse_gradients
from model.train_config import TrainConfig

ROWS, WIDTH = 12, 3
BATCHES = [
    torch.tensor([[1, 3, 3], [5, 1, 1]]),
    torch.tensor([[2, 3, 3], [3, 3, 3]]),
    torch.tensor([[1, 7, 9], [0, 2, 5]]),
]
FREE = TrainConfig(clip_norm=0.0, learning_rate=0.05)


class Lookup(nn.Module):
    """One table looked up twice, as history and candidate do, and a dense layer."""

    def __init__(self, rows: int = ROWS) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.items = nn.Embedding(rows, WIDTH, padding_idx=0)
            self.layer = nn.Linear(WIDTH, 1)
            self.product = nn.Parameter(torch.rand(2, WIDTH).T)  # not contiguous, as attention's weights are

    def forward(self, ids: Tensor) -> Tensor:
        return (
            self.layer(torch.tanh(self.items(ids).sum(1) * self.items(ids[:, 0]) @ self.product @ self.product.T))
            .square()
            .mean()
        )


def table_after(config: TrainConfig, steps: int = len(BATCHES)) -> Tensor:
    """The table after the first batches."""
    net = Lookup()
    optimizer = NetOptimizer(net, config, steps_per_epoch=len(BATCHES))
    with sparse_gradients(net):
        for batch in BATCHES[:steps]:
            optimizer.step(net(batch))
    return net.items.weight.detach()


def by_torch(optimizers: Callable[[Lookup], list[torch.optim.Optimizer]], *, sparse: bool) -> Tensor:
    """The same by optimisers of torch."""
    net = Lookup()
    net.items.sparse = sparse
    each = optimizers(net)
    for batch in BATCHES:
        net.zero_grad()
        net(batch).backward()
        for optimizer in each:
            optimizer.step()
    return net.items.weight.detach()


def adam(net: Lookup) -> torch.optim.Optimizer:
    return torch.optim.Adam([*net.layer.parameters(), net.product], lr=0.05)


def test_row_adam_is_torchs_sparse_adam() -> None:
    """Same rows, same values after three batches with repeated ids."""
    expected = by_torch(lambda net: [torch.optim.SparseAdam(net.items.parameters(), lr=0.05), adam(net)], sparse=True)

    torch.testing.assert_close(expected, table_after(FREE))


def test_row_adagrad_is_torchs_adagrad() -> None:
    """Adagrad on touched rows is Adagrad: the others have no gradient."""
    config = TrainConfig(clip_norm=0.0, learning_rate=0.05, embedding_optimizer="adagrad")
    expected = by_torch(lambda net: [torch.optim.Adagrad(net.items.parameters(), lr=0.05), adam(net)], sparse=False)

    torch.testing.assert_close(expected, table_after(config))


def test_dense_adam_is_torchs_adam() -> None:
    """It moves rows that the batch does not touch, by their momentum."""
    config = TrainConfig(clip_norm=0.0, learning_rate=0.05, embedding_optimizer="dense_adam")
    expected = by_torch(lambda net: [torch.optim.Adam(net.items.parameters(), lr=0.05), adam(net)], sparse=False)

    torch.testing.assert_close(expected, table_after(config))
    assert not torch.equal(table_after(config, 1)[5], table_after(config, 2)[5])  # batch 2 has no id 5


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_untouched_rows_stay_bit_for_bit(kind: str) -> None:
    """Rows that no batch looks up, and padding, are as they were drawn."""
    before = Lookup().items.weight.detach()

    after = table_after(TrainConfig(learning_rate=0.05, embedding_optimizer=kind))

    moved = (before != after).any(1).nonzero()[:, 0].tolist()
    assert [1, 2, 3, 5, 7, 9] == moved


class Largest(TorchDispatchMode):
    """Notes the largest number of elements that any operation returns anew, sparse tensors by what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.dense_gradients = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.data_ptr() for t in args if isinstance(t, Tensor) and not t.is_sparse}
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and not tensor.is_sparse and tensor.data_ptr() not in given:
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize(("kind", "whole"), [("adam", False), ("adagrad", False), ("dense_adam", True)])
def test_a_million_rows_are_never_made_dense(kind: str, whole: bool) -> None:
    """No operation of a step returns a tensor of the table's size; dense_adam does, so we would see it."""
    net = Lookup(rows=1_000_000)
    config = TrainConfig(embedding_optimizer=kind, embedding_l2=0.1)
    counts = {"items": torch.ones(1_000_000, dtype=torch.int64)}
    optimizer = NetOptimizer(net, config, steps_per_epoch=1, impressions=counts)

    with sparse_gradients(net), Largest() as largest:
        optimizer.step(net(torch.randint(1, 1_000_000, (64, 20))))

    assert (largest.elements >= 1_000_000) == whole
    assert whole or largest.elements <= 64 * 21 * WIDTH


def test_sparse_gradients_are_switched_off_again() -> None:
    """After training a table is what it was, also when training fails."""
    net = Lookup()

    def fail_inside() -> None:
        with sparse_gradients(net):
            net(BATCHES[0]).backward()
            assert net.items.weight.grad.is_sparse
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not net.items.sparse
    assert net.items.weight.grad is None


def test_clipping_counts_tables_and_dense_weights_together() -> None:
    """A step of plain sums: the clipped gradient has the norm asked for, and the direction it had."""
    net = Lookup()
    free, clipped = (gradient_of_first_step(TrainConfig(clip_norm=norm)) for norm in (0.0, 1e-3))
    net(BATCHES[0]).backward()
    dense = torch.cat([p.grad.flatten() for p in net.parameters()])

    torch.testing.assert_close(dense.norm(), free.norm())
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=1e-2)
    torch.testing.assert_close(free / free.norm(), clipped / clipped.norm(), atol=1e-4, rtol=1e-4)


def gradient_of_first_step(config: TrainConfig) -> Tensor:
    """Of the table and the layer in one row, read off Adam's first moments, 0.1 of it after one step."""
    net = Lookup()
    optimizer = NetOptimizer(net, config, steps_per_epoch=1)
    with sparse_gradients(net):
        optimizer.step(net(BATCHES[0]))
    state = optimizer.state()
    dense = [state[f"dense.{name}.exp_avg"] for name in ("product", "layer.weight", "layer.bias")]
    first = [state["rows.items.first"], *dense]
    return torch.cat([moment.flatten() for moment in first]) * 10


def test_weight_decay_is_adamws_and_for_matrices_only() -> None:
    """A matrix with no gradient shrinks by rate * decay per step; biases and tables do not."""
    net = Lookup()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = NetOptimizer(net, TrainConfig(learning_rate=0.1, weight_decay=0.5), steps_per_epoch=1)

    with sparse_gradients(net):
        optimizer.step(net(BATCHES[0]) * 0)

    after = dict(net.named_parameters())
    torch.testing.assert_close(before["layer.weight"] * (1 - 0.1 * 0.5), after["layer.weight"].detach())
    assert torch.equal(before["layer.bias"], after["layer.bias"])
    assert torch.equal(before["items.weight"], after["items.weight"])


@pytest.mark.parametrize("kind", ["adam", "adagrad", "dense_adam"])
def test_a_restored_optimizer_goes_on_bit_for_bit(kind: str) -> None:
    """State taken after two batches, put into a new optimiser of the same weights: the third step is the same."""
    config = TrainConfig(embedding_optimizer=kind, schedule="cosine", epochs=2)
    net, copy = Lookup(), Lookup()
    optimizer = NetOptimizer(net, config, steps_per_epoch=3)
    with sparse_gradients(net), sparse_gradients(copy):
        for batch in BATCHES[:2]:
            optimizer.step(net(batch))
        copy.load_state_dict(net.state_dict())
        again = NetOptimizer(copy, config, steps_per_epoch=3)
        again.restore({name: value.contiguous() for name, value in optimizer.state().items()})  # as a file does
        for each, other in ((net, optimizer), (copy, again)):
            other.step(each(BATCHES[2]))

    for name, value in net.state_dict().items():
        assert torch.equal(value, copy.state_dict()[name]), name


def test_the_schedule_reaches_tables_and_dense_weights() -> None:
    """At the last step but one of a linear fall to 0 everything moves by the last eighth of Adam's first move."""
    full, small = (one_step(TrainConfig(schedule="linear", epochs=1, clip_norm=0.0), steps_before=n) for n in (0, 7))

    for name in ("items.weight", "layer.weight"):
        torch.testing.assert_close(full[name] / 8, small[name], atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("kind", ["adam", "dense_adam", "adagrad"])
def test_tables_may_have_a_learning_rate_of_their_own(kind: str) -> None:
    """Three times the rate for tables moves them three times as far, and the dense weights as before."""
    plain = TrainConfig(clip_norm=0.0, embedding_optimizer=kind)
    own = TrainConfig(clip_norm=0.0, embedding_optimizer=kind, embedding_learning_rate=3 * plain.learning_rate)
    before, after = (one_step(config, steps_before=0) for config in (plain, own))

    torch.testing.assert_close(after["items.weight"], 3 * before["items.weight"], atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(after["layer.weight"], before["layer.weight"])


def one_step(config: TrainConfig, *, steps_before: int) -> dict[str, Tensor]:
    """How far each weight moves in the step after so many of eight."""
    net = Lookup()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = NetOptimizer(net, config, steps_per_epoch=8)
    optimizer.steps = steps_before
    with sparse_gradients(net):
        optimizer.step(net(BATCHES[0]))
    return {name: p.detach() - before[name] for name, p in net.named_parameters()}
