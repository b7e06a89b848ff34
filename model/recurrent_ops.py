"""The nets' loops as operators that tracing cannot look into: what export puts in their place.

For each loop per candidate there are two, of which one gives its last state and the other the lengths of its steps.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from model.nets.aigru import aigru_recurrence
from model.nets.augru import augru_recurrence, public_recurrence
from model.nets.explained import aigru_updates, augru_updates, public_updates
from model.nets.gru import gru_recurrence


@torch.library.custom_op("ctr::gru", mutates_args=())
def gru_op(x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor) -> Tensor:
    """`gru_recurrence` as one operator that tracing cannot look into."""
    return gru_recurrence(x_ULE, weight_GE, weight_GH, input_bias_G, hidden_bias_G)


@torch.library.custom_op("ctr::augru", mutates_args=())
def augru_op(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """`augru_recurrence` as one operator."""
    return augru_recurrence(inputs_ULG, attention_UCL, weight_GH, bias_G)


@torch.library.custom_op("ctr::augru_public", mutates_args=())
def public_op(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """`public_recurrence` as one operator."""
    return public_recurrence(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G)


@torch.library.custom_op("ctr::aigru", mutates_args=())
def aigru_op(inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor) -> Tensor:
    """`aigru_recurrence` as one operator."""
    return aigru_recurrence(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G)


@torch.library.custom_op("ctr::augru_updates", mutates_args=())
def augru_updates_op(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """`augru_updates` as one operator."""
    return augru_updates(inputs_ULG, attention_UCL, weight_GH, bias_G).contiguous()


@torch.library.custom_op("ctr::augru_public_updates", mutates_args=())
def public_updates_op(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    """`public_updates` as one operator."""
    return public_updates(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G).contiguous()


@torch.library.custom_op("ctr::aigru_updates", mutates_args=())
def aigru_updates_op(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor
) -> Tensor:
    """`aigru_updates` as one operator."""
    return aigru_updates(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G).contiguous()


@gru_op.register_fake
def _gru_shape(
    x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor
) -> Tensor:
    return x_ULE.new_empty(*x_ULE.shape[:2], weight_GH.shape[1])


@augru_op.register_fake
def _augru_shape(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    return inputs_ULG.new_empty(*attention_UCL.shape[:2], weight_GH.shape[1])


@public_op.register_fake
@aigru_op.register_fake
def _masked_shape(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    return inputs_ULG.new_empty(*attention_UCL.shape[:2], weight_GH.shape[1])


@augru_updates_op.register_fake
def _updates_shape(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    return torch.empty_like(attention_UCL)


@public_updates_op.register_fake
@aigru_updates_op.register_fake
def _masked_updates_shape(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    return torch.empty_like(attention_UCL)


# What `replaced_recurrences` puts in place of each loop before export.
OPERATORS: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    gru_recurrence: gru_op,
    augru_recurrence: augru_op,
    public_recurrence: public_op,
    aigru_recurrence: aigru_op,
}
# The same for a graph that tells the lengths of the loops' steps.
UPDATE_OPERATORS: Mapping[Callable[..., Tensor], Callable[..., Tensor]] = {
    gru_recurrence: gru_op,
    augru_recurrence: augru_updates_op,
    public_recurrence: public_updates_op,
    aigru_recurrence: aigru_updates_op,
}
