"""The native training nodes against plain torch in float64, forward and backward.

U users, L history, E width, H hidden, J outputs of the attention's first layer.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.nets.native.attention import Unit, attend
from model.nets.native.auxiliary import auxiliary_loss
from model.nets.native.dice import dice
from model.nets.native.gated import gated
from model.nets.native.library import library, loaded
from model.nets.native.lookup import lookup
from model.nets.native.rows import rows_of

pytestmark = pytest.mark.skipif(library() is None, reason="the training kernels need a C++ compiler when installing")
TOLERANCE = 2e-5
PATHS = (library().paths if library() else []) or ["none"]  # type: ignore[union-attr]  # asked for just before


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs the test with every instruction set that this processor has."""
    fastest = loaded().path
    loaded().path = request.param
    yield
    loaded().path = fastest


def real(count_U: Tensor, length: int) -> Tensor:
    return torch.arange(length) < count_U[:, None]


def gated_by_steps(x_ULE: Tensor, a_UL: Tensor, count_U: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    input_weight, hidden_weight, input_bias, hidden_bias = weights
    H = hidden_weight.shape[1]
    h, states, mask_UL = x_ULE.new_zeros(len(x_ULE), H), [], real(count_U, x_ULE.shape[1])
    for t in range(x_ULE.shape[1]):
        x, g = x_ULE[:, t] @ input_weight.T + input_bias, h @ hidden_weight.T + hidden_bias
        r, u = torch.sigmoid(x[:, : 2 * H] + g[:, : 2 * H]).chunk(2, dim=1)
        c = torch.tanh(x[:, 2 * H :] + r * g[:, 2 * H :])
        h = h + (a_UL * mask_UL)[:, t, None] * u * (c - h)
        states.append(h * mask_UL[:, t, None])
    return torch.stack(states, 1), h


def attend_plainly(
    query_UE: Tensor, key_ULE: Tensor, count_U: Tensor, softmax: bool, *weights: Tensor
) -> tuple[Tensor, Tensor]:
    query, key, product, bias, *layers = weights
    out = (query_UE @ query + bias)[:, None] + key_ULE @ key + (query_UE[:, None] * key_ULE) @ product
    for weight, offset in zip(layers[::2], layers[1::2], strict=True):
        out = torch.sigmoid(out) @ weight.T + offset
    mask_UL = real(count_U, key_ULE.shape[1])
    score_UL = out[..., 0]
    if softmax:
        score_UL = torch.softmax(score_UL.masked_fill(~mask_UL, -1e9), dim=-1)
    weight_UL = score_UL * mask_UL
    return weight_UL, (weight_UL[..., None] * key_ULE).sum(1)


Nodes = Callable[..., tuple[Tensor, ...]]


def assert_same(native: Nodes, plain: Nodes, inputs: list[Tensor]) -> None:
    """Outputs and gradients in float32 are those in float64, under random gradients of the outputs."""
    found = []
    for nodes, dtype in ((native, torch.float32), (plain, torch.float64)):
        given_ = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
        outputs = nodes(*given_)
        generator = torch.Generator().manual_seed(1)
        pull = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(dtype) for o in outputs]
        torch.autograd.backward([(o * p).sum() for o, p in zip(outputs, pull, strict=True)])
        found.append([*(o.detach() for o in outputs), *(g.grad for g in given_)])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert theirs is not None
        scale = 1 + float(theirs.abs().max()) if theirs.numel() else 1
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=TOLERANCE * scale)


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.5 * torch.randn(shape, generator=generator) for shape in shapes]


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=70)
widths = st.sampled_from([(1, 1), (3, 5), (16, 16), (32, 32), (18, 36), (33, 7)])


@settings(deadline=None, max_examples=15)
@given(lengths, widths, st.booleans(), st.integers(0, 1000))
def test_the_recurrence_is_the_loop(counts: list[int], width: tuple[int, int], attended: bool, seed: int) -> None:
    """GRU and AUGRU, states and final state, equal the loop over steps for any lengths, 0 among them."""
    (E, H), U, L = width, len(counts), 40
    count_U = torch.tensor(counts)
    a_UL = torch.rand(U, L, generator=torch.Generator().manual_seed(seed)) if attended else torch.ones(U, L)
    rows = rows_of(count_U, L)
    inputs = drawn(seed, (U, L, E), (3 * H, E), (3 * H, H), (3 * H,), (3 * H,))
    assert_same(
        lambda x, *w: gated(x, a_UL if attended else None, rows, w),
        lambda x, *w: gated_by_steps(x, a_UL.double(), count_U, *w),
        inputs,
    )


@pytest.mark.usefixtures("path")
def test_the_recurrence_passes_attention_its_gradient() -> None:
    """Every instruction set gives AUGRU's attention, inputs and weights the gradients of the loop."""
    U, L, E, H = 67, 9, 18, 20
    count_U = torch.arange(U) % (L + 1)
    rows = rows_of(count_U, L)
    inputs = drawn(0, (U, L, E), (U, L), (3 * H, E), (3 * H, H), (3 * H,), (3 * H,))
    assert_same(lambda x, a, *w: gated(x, a, rows, w), lambda x, a, *w: gated_by_steps(x, a, count_U, *w), inputs)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("hidden", [(5,), (80, 40), (7, 6, 3)])
def test_attention_is_the_layers_that_it_stands_for(softmax: bool, hidden: tuple[int, ...]) -> None:
    """Weights, attended history and all gradients equal those of the written-out layers, empty histories included."""
    U, L, E = 66, 35, 18
    count_U = (torch.arange(U) * 7) % (L + 1)
    rows = rows_of(count_U, L)
    shapes = [shape for a, b in pairwise((*hidden, 1)) for shape in ((b, a), (b,))]
    inputs = drawn(1, (U, E), (U, L, E), *[(E, hidden[0])] * 3, (hidden[0],), *shapes)

    def native(q: Tensor, k: Tensor, wq: Tensor, wk: Tensor, wp: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        unit = Unit(query=wq, key=wk, product=wp, bias=rest[0], layers=rest[1:], softmax=softmax)
        return attend(q, k, rows, unit)

    assert_same(native, lambda q, k, *w: attend_plainly(q, k, count_U, softmax, *w), inputs)


@pytest.mark.usefixtures("path")
def test_the_auxiliary_loss_is_the_mean_over_real_steps() -> None:
    """It and its gradients equal the formula; a history of one behavior has no step, logits of 50 do not overflow."""
    U, L, E = 65, 12, 18
    count_U = torch.arange(U) % (L + 1)
    rows = rows_of(count_U, L)
    states, *others = drawn(2, *[(U, L, E)] * 3)

    def plain(h: Tensor, e: Tensor, n: Tensor) -> tuple[Tensor]:
        mask = real(count_U, L)[:, 1:]
        loss = nn.functional.softplus(-(h[:, :-1] * e[:, 1:]).sum(-1))
        loss = loss + nn.functional.softplus((h[:, :-1] * n[:, 1:]).sum(-1))
        return ((loss * mask).sum() / mask.sum(),)

    assert_same(lambda h, e, n: (auxiliary_loss(h, e, n, rows),), plain, [20 * states, *others])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (7, 20), (100, 80)])
def test_dice_is_its_formula(rows: int, width: int) -> None:
    """Output and gradients equal those of equation 3 with the batch's mean and variance, for one row as well."""

    def plain(x: Tensor, alpha: Tensor) -> tuple[Tensor]:
        p = torch.sigmoid((x - x.mean(0)) * torch.rsqrt(x.var(0, unbiased=False) + 1e-8))
        return (x * (alpha + (1 - alpha) * p),)

    assert_same(lambda x, alpha: dice(x, alpha, 1e-8)[:1], plain, drawn(6, (rows, width), (width,)))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_lookup_names_each_row_once(sparse: bool) -> None:
    """Vectors, sums and the tables' gradients equal those of torch's lookup under the mask; padding gets none."""
    count_U, generator = torch.tensor([0, 3, 5, 1]), torch.Generator().manual_seed(0)
    ids_ULF = torch.randint(1, 7, (4, 5, 2), generator=generator) * real(count_U, 5)[..., None]
    tables = [nn.Embedding(7, dim, padding_idx=0, sparse=sparse) for dim in (3, 16)]
    pull_ULE, pull_UE = torch.randn(4, 5, 19, generator=generator), torch.randn(4, 19, generator=generator)
    grads = []
    for native in (True, False):
        for table in tables:
            table.weight.grad = None
        if native:
            out_ULE, total_UE = lookup(ids_ULF, tables, rows_of(count_U, 5))
        else:
            out_ULE = torch.cat([t(ids_ULF[..., i]) for i, t in enumerate(tables)], dim=-1)
            out_ULE = out_ULE * real(count_U, 5)[..., None]
            total_UE = out_ULE.sum(1)
        ((out_ULE * pull_ULE).sum() + (total_UE * pull_UE).sum()).backward()
        if native and sparse:
            assert len(tables[0].weight.grad._indices()[0].unique()) == tables[0].weight.grad._nnz()
        grads.append([out_ULE.detach(), total_UE.detach(), *(t.weight.grad.to_dense() for t in tables)])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_id_outside_of_its_table_is_refused() -> None:
    """A lookup checks an id before it reads."""
    with pytest.raises(RuntimeError, match="outside of its table"):
        lookup(torch.full((1, 1, 1), 9), [nn.Embedding(7, 3)], rows_of(torch.tensor([1]), 1))


def test_threads_do_not_change_a_bit() -> None:
    """The same gradients with one thread and with two."""
    U, L, E, H = 200, 20, 16, 16
    rows, inputs = rows_of(torch.arange(U) % 21, L), drawn(5, (U, L, E), (3 * H, E), (3 * H, H), (3 * H,), (3 * H,))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            x, *weights = (t.clone().requires_grad_() for t in inputs)
            gated(x, None, rows, tuple(weights))[0].sum().backward()  # type: ignore[arg-type]  # four of them
            found.append([x.grad, *(w.grad for w in weights)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
