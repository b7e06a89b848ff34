"""What a net tells about a score beside it: where it looked, and how far each behavior moved the interest state.

    attention   a_t, the very weights that `score` uses
    update      ||h_t - h_(t-1)||_2, h the state of the second GRU for this candidate, h_0 = 0 (AGRU, AIGRU, AUGRU)

Both are 0 where the mask is. U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from model.nets.aigru import aigru_recurrence, aigru_states
from model.nets.attention import ProductAttention, TargetAttention
from model.nets.augru import augru_recurrence, public_recurrence, public_states
from model.nets.din import Din
from model.nets.embedding import Tensors
from model.nets.gru import gru_recurrence
from model.nets.interest import AttendedSum, InterestNet
from model.nets.recurrence import gated_recurrence

# What the candidate half's own inputs are called that this reads.
READS = ("state_keys", "state_mask", "state_inputs", "item_sparse")


class Explained(nn.Module):
    """The candidate half up to where its head begins. For a net with attention, while its loops are `UPDATES`."""

    def __init__(self, net: Din | InterestNet) -> None:
        super().__init__()
        self.embedding = net.embedding
        self.attention: TargetAttention | ProductAttention = net.attention
        self.evolution = None
        if isinstance(net, InterestNet) and not isinstance(net.evolution, AttendedSum):
            self.evolution = net.evolution

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """`attention` [U, C, L], and `update` [U, C, L] of a net with a loop per candidate."""
        mask_UL = tensors["state_mask"]
        weight_UCL = self.attention(self.embedding.target(tensors), tensors["state_keys"], mask_UL)
        if self.evolution is None:
            return {"attention": weight_UCL}
        return {"attention": weight_UCL, "update": self.evolution(tensors["state_inputs"], weight_UCL, mask_UL)}


def augru_updates(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """The lengths of `augru_recurrence`'s steps, [U, C, L]."""
    return _lengths(gated_recurrence(inputs_ULG, attention_UCL, weight_GH, bias_G))


def public_updates(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    """The lengths of `public_recurrence`'s steps, [U, C, L]."""
    return _lengths(torch.stack(list(public_states(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G))))


def aigru_updates(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor
) -> Tensor:
    """The lengths of `aigru_recurrence`'s steps, [U, C, L]."""
    return _lengths(aigru_states(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G))


# What takes the place of each loop; an evolution then gives the lengths of its steps where it gave its last state.
UPDATES: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    gru_recurrence: gru_recurrence,
    augru_recurrence: augru_updates,
    public_recurrence: public_updates,
    aigru_recurrence: aigru_updates,
}


def _lengths(states_LUCH: Tensor) -> Tensor:
    """From the states after every step to the length of each step, [U, C, L]."""
    before_LUCH = torch.cat([torch.zeros_like(states_LUCH[:1]), states_LUCH[:-1]])
    return (states_LUCH - before_LUCH).square().sum(-1).sqrt().permute(1, 2, 0)
