"""The loops that tell the lengths of their steps, in the little language that torch.jit.script reads.

They are `UPDATES` of model/nets/explained.py; the gate holds the two together. U users, C candidates, L history,
H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from model.nets.aigru import aigru_recurrence
from model.nets.augru import augru_recurrence, public_recurrence


def _augru(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    U, C, L = attention_UCL.shape
    H = weight_GH.shape[1]
    x_UL1G = inputs_ULG.unsqueeze(2)
    h = inputs_ULG.new_zeros([U, C, H])
    lengths_UCL = torch.empty_like(attention_UCL)
    for t in range(L):
        x, g = x_UL1G[:, t], nn.functional.linear(h, weight_GH, bias_G)
        ru = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H])
        c = torch.tanh(torch.addcmul(x[..., 2 * H :], ru[..., :H], g[..., 2 * H :]))
        moved = attention_UCL[:, :, t].unsqueeze(-1) * ru[..., H:] * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


def _public(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    U, C, L = attention_UCL.shape
    H = weight_GH.shape[1]
    x_UL1G = inputs_ULG.unsqueeze(2)
    rest_UCL = mask_UL.unsqueeze(1) - attention_UCL
    h = inputs_ULG.new_zeros([U, C, H])
    lengths_UCL = torch.empty_like(attention_UCL)
    for t in range(L):
        x, g = x_UL1G[:, t], nn.functional.linear(h, weight_GH, bias_G)
        ru = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H])
        c = torch.tanh(torch.addcmul(x[..., 2 * H :], ru[..., :H], g[..., 2 * H :]))
        share = torch.addcmul(attention_UCL[:, :, t].unsqueeze(-1), rest_UCL[:, :, t].unsqueeze(-1), ru[..., H:])
        moved = share * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


def _aigru(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor) -> Tensor:
    U, C, L = attention_UCL.shape
    H = weight_GH.shape[1]
    x_UL1G = inputs_ULG.unsqueeze(2)
    mask_UL11 = mask_UL.unsqueeze(-1).unsqueeze(-1)
    h = inputs_ULG.new_zeros([U, C, H])
    lengths_UCL = torch.empty_like(attention_UCL)
    for t in range(L):
        x = torch.addcmul(bias_2G[0], attention_UCL[:, :, t].unsqueeze(-1), x_UL1G[:, t])
        g = nn.functional.linear(h, weight_GH, bias_2G[1])
        ru = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H])
        c = torch.tanh(torch.addcmul(x[..., 2 * H :], ru[..., :H], g[..., 2 * H :]))
        moved = mask_UL11[:, t] * ru[..., H:] * (c - h)
        lengths_UCL[:, :, t] = moved.square().sum(-1).sqrt()
        h = h + moved
    return lengths_UCL


UPDATE_LOOPS: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    augru_recurrence: _augru,
    public_recurrence: _public,
    aigru_recurrence: _aigru,
}
