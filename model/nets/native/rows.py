"""The rows of a batch as the kernels see them: how many behaviors each has, and which is longest."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """`count` [U] behaviors per row, int64; `order` [U]: rows from the longest history to the shortest."""

    count: Tensor
    order: Tensor


def rows_of(history_len_U: Tensor, length: int) -> Rows:
    """Of histories padded to `length`."""
    count = history_len_U.to(torch.int64).clamp(0, length)
    return Rows(count, torch.argsort(count, descending=True, stable=True))
