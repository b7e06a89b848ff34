"""The graph that every general server runs: the user's row repeated per candidate, [N, L, 4E] built and multiplied.

Same weights and the same scores as our two halves; the operators are the ones a plain PyTorch export gives.
N rows (one per candidate), L history, E width, H hidden.
"""

import io
import warnings

import onnx
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from model.nets.attention import TargetAttention
from model.nets.augru import Augru
from model.nets.dien import Dien
from model.nets.din import Din
from model.nets.embedding import mask_from_length, pool_history
from model.recurrent_onnx import translation_table
from model.recurrent_ops import gru_op


class NaiveNet(nn.Module):
    """DIN or DIEN over rows: user_sparse [N, F], history [N, L, F], history_len [N], item_sparse [N, F] -> pCTR [N]."""

    def __init__(self, net: Din | Dien) -> None:
        super().__init__()
        self.net = net
        self.first = _concatenated_layer(net.attention)
        head = net.head
        self.head = nn.Linear(head.user_weight.shape[1] + head.candidate_weight.shape[1], head.bias.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([head.user_weight, head.candidate_weight], dim=1))
            self.head.bias.copy_(head.bias)

    def forward(self, user_sparse: Tensor, history: Tensor, history_len: Tensor, item_sparse: Tensor) -> Tensor:
        net, embedding = self.net, self.net.embedding
        history_NLE = embedding.history(history)
        target_NE = embedding.target({"item_sparse": item_sparse})
        mask_NL = mask_from_length(history, history_len)
        pooled_NE = pool_history(history_NLE, mask_NL, net.pooling)
        keys_NLE = _gru(net, history_NLE) if isinstance(net, Dien) else history_NLE
        weight_NL = self._attention(target_NE, keys_NLE, mask_NL)
        if isinstance(net, Dien):
            read_NE = _augru(net.evolution, keys_NLE, weight_NL)
        else:
            read_NE = (weight_NL[..., None] * keys_NLE).sum(1)
        user = embedding.request({"user_sparse": user_sparse})
        row_ND = torch.cat([*user, pooled_NE, target_NE, target_NE * pooled_NE, read_NE], dim=-1)
        return torch.sigmoid(net.head.rest(self.head(row_ND)).squeeze(-1))

    def _attention(self, query_NE: Tensor, keys_NLE: Tensor, mask_NL: Tensor) -> Tensor:
        query_NLE = query_NE[:, None].expand_as(keys_NLE)
        pairs = torch.cat([query_NLE, keys_NLE, query_NLE - keys_NLE, query_NLE * keys_NLE], dim=-1)
        score_NL = self.net.attention.rest(self.first(pairs)).squeeze(-1)
        if self.net.attention.softmax:
            score_NL = torch.softmax(score_NL + (1 - mask_NL) * -1e9, dim=-1)
        return score_NL * mask_NL


def export_naive(net: Din | Dien, *, history: int, fields: int) -> bytes:
    """The naive graph as ONNX, rows dynamic, history length fixed at `history` as a padded server would have it."""
    rows = torch.export.Dim("N", min=2, max=100_000)
    example = (
        torch.ones(3, 1, dtype=torch.int64),
        torch.ones(3, history, fields, dtype=torch.int64),
        torch.full((3,), history),
        torch.ones(3, fields, dtype=torch.int64),
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            NaiveNet(net).eval(),
            example,
            dynamo=True,
            dynamic_shapes=tuple({0: rows} for _ in example),
            input_names=["user_sparse", "history", "history_len", "item_sparse"],
            output_names=["pctr"],
            custom_translation_table=translation_table(),
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    return buffer.getvalue()


def _concatenated_layer(attention: TargetAttention) -> nn.Linear:
    """The paper's first layer on [q; k; q-k; q*k], with the same function as ours: Wd may be anything, so it is 0."""
    E, H = attention.query_weight.shape
    layer = nn.Linear(4 * E, H)
    with torch.no_grad():
        blocks = [attention.query_weight, attention.key_weight, torch.zeros(E, H), attention.product_weight]
        layer.weight.copy_(torch.cat(blocks).T)
        layer.bias.copy_(attention.bias)
    return layer


def _gru(net: Dien, history_NLE: Tensor) -> Tensor:
    gru = net.extractor
    return gru_op(history_NLE, gru.input_weight, gru.hidden_weight, gru.input_bias, gru.hidden_bias)


def _augru(augru: Augru, interest_NLH: Tensor, weight_NL: Tensor) -> Tensor:
    """AUGRU by torch's scan, which its exporter turns into an ONNX Scan over rows."""

    def step(h_NH: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        gates_NG, a_N = x
        recurrent_NG = torch.addmm(augru.hidden_bias, h_NH, augru.hidden_weight.T)
        r, u, c = gates_NG.chunk(3, dim=-1)
        hr, hu, hc = recurrent_NG.chunk(3, dim=-1)
        scale = a_N[:, None] * torch.sigmoid(u + hu)
        new = (1 - scale) * h_NH + scale * torch.tanh(c + torch.sigmoid(r + hr) * hc)
        return new, new[:, :1].clone()

    inputs_LNG = augru.inputs(interest_NLH).transpose(0, 1)
    final, _ = scan(step, torch.zeros_like(interest_NLH[:, 0]), (inputs_LNG, weight_NL.T.contiguous()))
    return final
