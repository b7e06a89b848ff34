"""The nets in two halves against the plain paper form, one candidate and one behavior at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.bundle.schema import Schema, schema_from_table
from model.nets import NETS as net_kinds  # noqa: N811  # the constant of this file is another
from model.nets import Net, build_net
from model.nets.attention import ProductAttention, TargetAttention
from model.nets.augru import Augru
from model.nets.gru import Gru
from model.nets.interest import InterestNet
from model.nets.pnn import Pnn
from model.nets.recurrence import gated_recurrence
from model.nets.wide_deep import WideDeep

SIZES = {"city": 9, "hour": 26, "item_id": 500, "cate_id": 40}


@pytest.fixture(scope="module")
def schema() -> Schema:
    table = {
        "keys": {"category": "cate_id"},
        "user": [{"name": "city", "dim": 5}, {"name": "age", "kind": "dense"}],
        "context": [{"name": "hour", "dim": 3}],
        "item": [{"name": "item_id", "dim": 7}, {"name": "price", "kind": "dense"}, {"name": "cate_id", "dim": 6}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    }
    return schema_from_table(table, file="test")


def make_net(schema: Schema, **table: object) -> Net:
    """A net with weights large enough that a mistake shows, and Dice statistics other than 0 and 1."""
    torch.manual_seed(7)
    net = build_net(table, schema, SIZES, file="test").eval()
    for name, tensor in net.state_dict().items():
        if "tables" in name:
            tensor[2:].normal_(std=0.5)
        elif "cross" in name or name == "attention.weight":
            tensor.normal_(std=0.5)
        elif name.endswith("variance"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("mean", "alpha", "share")):
            tensor.normal_(std=0.3)
    return net


def random_inputs(lengths: list[int], candidates: int, *, width: int | None = None) -> dict[str, Tensor]:
    """One user per length; histories padded to `width` or to the longest."""
    rng = np.random.default_rng(3)
    U, L = len(lengths), width or max(*lengths, 1)
    history = np.stack([rng.integers(1, 500, (U, L)), rng.integers(1, 40, (U, L))], axis=-1)
    history[np.arange(L) >= np.array(lengths)[:, None]] = 0
    items = np.stack([rng.integers(1, 500, (U, candidates)), rng.integers(1, 40, (U, candidates))], axis=-1)
    arrays = {
        "user_sparse": rng.integers(1, 9, (U, 1)),
        "user_dense": rng.normal(size=(U, 1)).astype(np.float32),
        "context_sparse": rng.integers(1, 26, (U, 1)),
        "history": history,
        "history_len": np.array(lengths),
        "item_sparse": items,
        "item_dense": rng.normal(size=(U, candidates, 1)).astype(np.float32),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def paper_scores(attention: TargetAttention | ProductAttention, q: Tensor, keys: list[Tensor]) -> list[Tensor]:
    """MLP([q; k; q-k; q*k]) per behavior (DIN, section 4.3), whose Wd is free and so drawn here; or a product."""
    E = len(q)
    if isinstance(attention, ProductAttention):
        if not list(attention.parameters()):
            return [q @ k / E**0.5 for k in keys]
        return [q @ attention.weight[:, :-1] @ k + q @ attention.weight[:, -1] for k in keys]
    Wd = torch.linspace(-1, 1, E * attention.bias.numel()).view(E, -1)
    blocks = [attention.query_weight - Wd, attention.key_weight + Wd, Wd, attention.product_weight]
    W1 = torch.cat(blocks)
    return [attention.rest(torch.cat([q, k, q - k, q * k]) @ W1 + attention.bias)[0] for k in keys]


def paper_attention(attention: TargetAttention | ProductAttention, q: Tensor, keys: list[Tensor]) -> list[Tensor]:
    """A weight per behavior, of sum 1 with softmax."""
    scores = paper_scores(attention, q, keys)
    if attention.softmax and scores:
        return list(torch.softmax(torch.stack(scores), dim=0))
    return scores


def paper_evolution(net: InterestNet, kind: str, interests: list[Tensor], weights: list[Tensor]) -> Tensor:
    """DIEN, section 4.3, AIGRU, AGRU, AUGRU and the public code's VecAttGRUCell (whose u is 1 - u here)."""
    gru = net.evolution
    h = torch.zeros(gru.hidden_weight.shape[1])
    for i, a in zip(interests, weights, strict=True):
        x = gru.input_weight @ (a * i if kind == "aigru" else i) + gru.input_bias
        g = gru.hidden_weight @ h + gru.hidden_bias
        if kind == "agru":
            (x_r, x_c), (h_r, h_c) = x.chunk(2), g.chunk(2)
            u = a
        else:
            (x_r, x_u, x_c), (h_r, h_u, h_c) = x.chunk(3), g.chunk(3)
            u = torch.sigmoid(x_u + h_u)
        if kind == "dien":
            u = a * u if gru.update == "paper" else 1 - (1 - a) * (1 - u)
        h = (1 - u) * h + u * torch.tanh(x_c + torch.sigmoid(x_r + h_r) * h_c)
    return h


def paper_gru(gru: Gru, behaviors: list[Tensor]) -> list[Tensor]:
    """DIEN, section 4.2, eq. 2-5: AUGRU where every weight is 1."""
    h = torch.zeros(gru.hidden_weight.shape[1])
    states = []
    for behavior in behaviors:
        x_r, x_u, x_c = (gru.input_weight @ behavior + gru.input_bias).chunk(3)
        h_r, h_u, h_c = (gru.hidden_weight @ h + gru.hidden_bias).chunk(3)
        u = torch.sigmoid(x_u + h_u)
        h = (1 - u) * h + u * torch.tanh(x_c + torch.sigmoid(x_r + h_r) * h_c)
        states.append(h)
    return states


def paper_logit(net: Net, kind: str, tensors: dict[str, Tensor], u: int, c: int) -> Tensor:
    """One row by the papers' formulas: no halves, no padding, no batch."""
    tables = net.embedding.tables

    def behavior(ids: Tensor) -> Tensor:
        return torch.cat([tables["item_id"](ids[0]), tables["cate_id"](ids[1])])

    history = [behavior(ids) for ids in tensors["history"][u, : int(tensors["history_len"][u])]]
    q = behavior(tensors["item_sparse"][u, c])
    total = sum(history, torch.zeros_like(q)) / max(len(history), 1)
    user = [tables["city"](tensors["user_sparse"][u, 0]), tensors["user_dense"][u]]
    user += [tables["hour"](tensors["context_sparse"][u, 0]), total]
    item = [q, tensors["item_dense"][u, c], q * total]
    if kind == "pnn":
        user, item = paper_products(net, user, item, total, q)
    if kind == "din":
        weights = paper_attention(net.attention, q, history)
        item.append(sum((w * k for w, k in zip(weights, history, strict=True)), torch.zeros_like(q)))
    if isinstance(net, InterestNet):
        item.append(paper_interest(net, kind, history, q))
    weight = torch.cat([net.head.user_weight, net.head.candidate_weight], dim=1)
    deep = net.head.rest((weight @ torch.cat(user + item) + net.head.bias)[None])[0, 0]
    return deep + (paper_wide(net, tensors, u, c) + net.cross.weight[0] @ (q * total) if kind == "wide_deep" else 0)


def paper_interest(net: InterestNet, kind: str, history: list[Tensor], q: Tensor) -> Tensor:
    """What the head reads of a history through its interest states."""
    states = history
    for gru in net.extractor if kind == "gru_gru" else [net.extractor]:
        states = paper_gru(gru, states)
    if net.state_share is not None:
        states = [e + net.state_share * h for e, h in zip(history, states, strict=True)]
    weights = paper_attention(net.attention, q, states)
    attended = sum((w * h for w, h in zip(weights, states, strict=True)), torch.zeros_like(q))
    if kind in ("din_gru", "gru_gru"):
        return attended
    evolved = paper_evolution(net, kind, states, weights)
    return evolved if net.evolved_share is None else attended + net.evolved_share * evolved


def paper_wide(net: WideDeep, tensors: dict[str, Tensor], u: int, c: int) -> Tensor:
    """A weight per id, those of a history averaged."""
    w = {name: table.weight[:, 0] for name, table in net.wide.tables.items()}
    length = int(tensors["history_len"][u])
    logit = w["city"][tensors["user_sparse"][u, 0]] + w["hour"][tensors["context_sparse"][u, 0]]
    for i, name in enumerate(("item_id", "cate_id")):
        past = w[name][tensors["history"][u, :length, i]]
        logit = logit + w[name][tensors["item_sparse"][u, c, i]] + past.sum() / max(length, 1)
    return logit


def paper_products(net: Pnn, user: list[Tensor], item: list[Tensor], total: Tensor, q: Tensor) -> tuple[list, list]:
    """What `base` shows the head, and <f_i, f_j> of the fields: city, hour, past item and category; item, category."""
    mine = [m(f) for m, f in zip(net.user_fields.maps, [user[0], user[2], total[:7], total[7:]], strict=True)]
    its = [m(f) for m, f in zip(net.item_fields.maps, [q[:7], q[7:]], strict=True)]
    user_pairs = [mine[i] @ mine[j] for i in range(4) for j in range(i + 1, 4)]
    item_pairs = [its[0] @ its[1], *(i @ m for i in its for m in mine)]
    return [*user, torch.stack(user_pairs)], [*item, torch.stack(item_pairs)]


NETS = [
    *({"kind": kind} for kind in net_kinds),
    {"kind": "din", "softmax": True, "activation": "prelu"},
    {"kind": "din", "attention_kind": "dot"},
    {"kind": "din", "attention_kind": "bilinear"},
    {"kind": "din_gru", "attention_kind": "dot"},
    {"kind": "aigru", "attention_kind": "bilinear"},
    {"kind": "dien", "auxiliary": "mlp", "activation": "prelu"},
    {"kind": "dien", "augru": "public", "attention_kind": "bilinear"},
    {"kind": "dien", "residual": True},
    {"kind": "gru_gru", "residual": True},
]


@pytest.mark.parametrize("kind", ["din_gru", "gru_gru", "aigru", "agru", "dien"])
def test_with_residual_a_net_begins_as_din(schema: Schema, kind: str) -> None:
    """Before its first step it gives the logits of DIN with softmax and the same weights."""
    din, net = make_net(schema, kind="din", softmax=True), make_net(schema, kind=kind, residual=True)
    net.load_state_dict(din.state_dict(), strict=False)
    shares = [parameter for name, parameter in net.named_parameters() if name.endswith("share")]
    tensors = random_inputs([0, 1, 5, 20], 3)

    with torch.no_grad():
        for share in shares:
            share.zero_()
        found, expected = net(tensors, tensors), din(tensors, tensors)

    assert len(shares) == (1 if kind in ("din_gru", "gru_gru") else 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("table", NETS, ids=str)
@pytest.mark.parametrize(("lengths", "candidates"), [([0, 1, 5, 20], 3), ([20], 1), ([0], 1), ([11, 2], 500)])
def test_two_halves_equal_the_paper_form(
    schema: Schema, table: dict[str, object], lengths: list[int], candidates: int
) -> None:
    """Empty, one-behavior and full histories, one candidate and 500: the same logit to 1e-5."""
    net = make_net(schema, **table)
    tensors = random_inputs(lengths, candidates)

    with torch.no_grad():
        logit_UC = net(tensors, tensors)
        checked = sorted({0, 1 % candidates, candidates // 2, candidates - 1})
        expected = torch.stack(
            [
                torch.stack([paper_logit(net, str(table["kind"]), tensors, u, c) for c in checked])
                for u in range(len(lengths))
            ]
        )

    torch.testing.assert_close(logit_UC[:, checked], expected, atol=1e-5, rtol=1e-5)
    assert (logit_UC != 0).all()


@pytest.mark.parametrize("table", NETS, ids=str)
def test_padding_and_neighbours_change_no_score(schema: Schema, table: dict[str, object]) -> None:
    """More padding, other users in the batch or other candidates beside it: the same pCTR to 1e-6."""
    net = make_net(schema, **table)
    wide = random_inputs([4, 9, 0], 6, width=30)

    with torch.no_grad():
        together = torch.sigmoid(net(wide, wide))
        for u, length in enumerate([4, 9, 0]):
            alone = {name: tensor[u : u + 1] for name, tensor in wide.items()}
            alone["history"] = alone["history"][:, : max(length, 1)]
            one = {n: t[:, 2:3] if n.startswith("item_") else t for n, t in alone.items()}

            torch.testing.assert_close(torch.sigmoid(net(alone, alone)), together[u : u + 1], atol=1e-6, rtol=0)
            torch.testing.assert_close(torch.sigmoid(net(one, one)), together[u : u + 1, 2:3], atol=1e-6, rtol=0)


def test_attention_ignores_padding_and_sums_to_one(schema: Schema) -> None:
    """Padding has weight exactly 0; softmax weights of a history sum to 1, those of an empty one to 0."""
    attention = make_net(schema, kind="dien").attention
    keys = attention.keys(torch.randn(3, 6, 13))
    mask = torch.tensor([[1.0] * 6, [1.0, 1, 0, 0, 0, 0], [0.0] * 6])

    weight = attention(torch.randn(3, 4, 13), keys, mask)

    assert (weight[1, :, 2:] == 0).all()
    assert (weight[2] == 0).all()
    torch.testing.assert_close(weight.sum(-1), torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 4))


def test_the_recurrence_s_gradient_is_right() -> None:
    """The backward pass written by hand agrees with finite differences in float64."""
    torch.manual_seed(0)
    inputs = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(2, 3, 4, dtype=torch.float64)
    attention[1, 0, 2:] = 0
    attention.requires_grad_()
    weight = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(9, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(gated_recurrence, (inputs, attention, weight, bias))


def test_zero_attention_keeps_the_state(schema: Schema) -> None:
    """a = 0 leaves AUGRU's state as it is (the paper's update, not the public code's)."""
    augru = Augru(4, 4)
    inputs = augru.inputs(torch.randn(1, 5, 4))
    weight = torch.tensor([[[0.3, 0.9, 0.0, 0.0, 0.0]]])

    full, cut = augru(inputs, weight, torch.ones(1, 5)), augru(inputs[:, :2], weight[..., :2], torch.ones(1, 2))

    torch.testing.assert_close(full, cut, atol=0, rtol=0)


def test_auxiliary_loss_by_hand(schema: Schema) -> None:
    """Mean over the real steps of -log p(real) - log(1 - p(sampled)); padding and lone behaviors count for nothing."""
    net = make_net(schema, kind="dien", auxiliary="dot")
    tensors = random_inputs([3, 1, 0], 1, width=5)
    negatives = random_inputs([5, 5, 5], 1)["history"]
    h = net.extract_interest(net.embedding.history(tensors["history"]))[0]
    real = net.embedding.history(tensors["history"])[0]
    fake = net.embedding.history(negatives)[0]
    expected = sum(
        -nn.functional.logsigmoid(h[t] @ real[t + 1]) - nn.functional.logsigmoid(-(h[t] @ fake[t + 1])) for t in (0, 1)
    )

    loss = net.auxiliary_loss(net.encode_user(tensors), tensors["history"], negatives)

    torch.testing.assert_close(loss, expected / 2)
    empty = random_inputs([0, 0], 1)
    assert net.auxiliary_loss(net.encode_user(empty), empty["history"], empty["history"]) == 0


@pytest.mark.parametrize("kind", net_kinds)
def test_one_row_and_empty_histories_train(schema: Schema, kind: str) -> None:
    """A batch of one row, or with nothing but empty histories, gives finite gradients."""
    net = make_net(schema, kind=kind).train()
    for lengths in ([0], [0, 0, 0], [1], [5], [0, 3, 0]):
        tensors = random_inputs(lengths, 1)
        net.zero_grad()
        net(tensors, tensors).sum().backward()

        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("kind", net_kinds)
def test_a_net_can_learn_by_heart(schema: Schema, kind: str) -> None:
    """32 rows are overfitted to a loss near 0."""
    net = make_net(schema, kind=kind).train()
    tensors = random_inputs([i % 9 for i in range(32)], 1)
    label = (torch.arange(32) % 2).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(150):
        loss = nn.functional.binary_cross_entropy_with_logits(net(tensors, tensors)[:, 0], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert float(loss.detach()) < 0.05
