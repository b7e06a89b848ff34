"""The loops of model/nets in the little language that torch.jit.script reads; the export's gate holds the two together.

`LOOPS` give the last state, `UPDATE_LOOPS` the lengths of their steps (`UPDATES` of model/nets/explained.py). U users,
C candidates, L history, E width, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from model.nets.aigru import aigru_recurrence
from model.nets.augru import augru_recurrence, public_recurrence
from model.nets.gru import gru_recurrence


def _gates(x: Tensor, h: Tensor, weight_GH: Tensor, bias_G: Tensor) -> tuple[Tensor, Tensor]:
    """How far a state may move, and where to: (u, c) of the input's share x [..., G] and the state h [..., H]."""
    H = weight_GH.shape[1]
    g = nn.functional.linear(h, weight_GH, bias_G)
    ru = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H])
    return ru[..., H:], torch.tanh(torch.addcmul(x[..., 2 * H :], ru[..., :H], g[..., 2 * H :]))


def _start(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor) -> Tensor:
    return inputs_ULG.new_zeros([attention_UCL.shape[0], attention_UCL.shape[1], weight_GH.shape[1]])


def _gru(x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor) -> Tensor:
    U, L, _ = x_ULE.shape
    x_ULG = nn.functional.linear(x_ULE, weight_GE, input_bias_G)
    h = x_ULE.new_zeros([U, weight_GH.shape[1]])
    states_ULH = x_ULE.new_empty([U, L, weight_GH.shape[1]])
    for t in range(L):
        u, c = _gates(x_ULG[:, t], h, weight_GH, hidden_bias_G)
        h = torch.addcmul(h, u, c - h)
        states_ULH[:, t] = h
    return states_ULH


def _augru(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    h = _start(inputs_ULG, attention_UCL, weight_GH)
    for t in range(attention_UCL.shape[2]):
        u, c = _gates(x_UL1G[:, t], h, weight_GH, bias_G)
        h = torch.addcmul(h, a_UCL1[:, :, t] * u, c - h)
    return h


def _augru_updates(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    h, lengths_UCL = _start(inputs_ULG, attention_UCL, weight_GH), torch.empty_like(attention_UCL)
    for t in range(attention_UCL.shape[2]):
        u, c = _gates(x_UL1G[:, t], h, weight_GH, bias_G)
        moved = a_UCL1[:, :, t] * u * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


def _public(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    rest_UCL1 = mask_UL.unsqueeze(1).unsqueeze(-1) - a_UCL1
    h = _start(inputs_ULG, attention_UCL, weight_GH)
    for t in range(attention_UCL.shape[2]):
        u, c = _gates(x_UL1G[:, t], h, weight_GH, bias_G)
        h = torch.addcmul(h, torch.addcmul(a_UCL1[:, :, t], rest_UCL1[:, :, t], u), c - h)
    return h


def _public_updates(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    rest_UCL1 = mask_UL.unsqueeze(1).unsqueeze(-1) - a_UCL1
    h, lengths_UCL = _start(inputs_ULG, attention_UCL, weight_GH), torch.empty_like(attention_UCL)
    for t in range(attention_UCL.shape[2]):
        u, c = _gates(x_UL1G[:, t], h, weight_GH, bias_G)
        moved = torch.addcmul(a_UCL1[:, :, t], rest_UCL1[:, :, t], u) * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


def _aigru(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    mask_UL11 = mask_UL.unsqueeze(-1).unsqueeze(-1)
    h = _start(inputs_ULG, attention_UCL, weight_GH)
    for t in range(attention_UCL.shape[2]):
        x = torch.addcmul(bias_2G[0], a_UCL1[:, :, t], x_UL1G[:, t])
        u, c = _gates(x, h, weight_GH, bias_2G[1])
        h = torch.addcmul(h, mask_UL11[:, t] * u, c - h)
    return h


def _aigru_updates(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor
) -> Tensor:
    x_UL1G, a_UCL1 = inputs_ULG.unsqueeze(2), attention_UCL.unsqueeze(-1)
    mask_UL11 = mask_UL.unsqueeze(-1).unsqueeze(-1)
    h, lengths_UCL = _start(inputs_ULG, attention_UCL, weight_GH), torch.empty_like(attention_UCL)
    for t in range(attention_UCL.shape[2]):
        x = torch.addcmul(bias_2G[0], a_UCL1[:, :, t], x_UL1G[:, t])
        u, c = _gates(x, h, weight_GH, bias_2G[1])
        moved = mask_UL11[:, t] * u * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


Loops = Mapping[Callable[..., Tensor], Callable[..., Tensor]]  # what nets call -> what is exported in its place
LOOPS: Loops = {
    gru_recurrence: _gru,
    augru_recurrence: _augru,
    public_recurrence: _public,
    aigru_recurrence: _aigru,
}
UPDATE_LOOPS: Loops = {
    augru_recurrence: _augru_updates,
    public_recurrence: _public_updates,
    aigru_recurrence: _aigru_updates,
}
