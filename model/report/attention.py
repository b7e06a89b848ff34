"""Where a net with attention looks: weights of a few users' behaviors for a few candidates, from the golden rows."""

from typing import Any

import numpy as np
import torch
from torch import nn

from model.bundle.encode import Encoder, Tensors
from model.bundle.schema import PADDING, UNKNOWN
from model.bundle.vocabulary import Vocabulary
from model.explained import attention_of

_USERS, _BEHAVIORS, _CANDIDATES = 3, 16, 4


def attention_maps(net: nn.Module, golden: Tensors, encoder: Encoder) -> list[dict[str, Any]]:
    """A map per user: item ids of the newest behaviors, of the candidates, and `weights` [candidate][behavior].

    The users have the longest histories of the golden rows. Empty for a net without a part called `attention`.
    """
    device = next(net.parameters()).device
    tensors = {n: torch.from_numpy(np.ascontiguousarray(tensor)).to(device) for n, tensor in golden.items()}
    found = attention_of(net, tensors)
    if found is None:
        return []
    weight_UCL = found.cpu().numpy()
    longest = np.argsort(-golden["history_len"].astype(np.int64), kind="stable")[:_USERS]
    return [_map(golden, encoder, user=int(u), weight_CL=weight_UCL[u]) for u in longest if golden["history_len"][u]]


def _map(golden: Tensors, encoder: Encoder, *, user: int, weight_CL: np.ndarray) -> dict[str, Any]:
    schema, length = encoder.schema, int(golden["history_len"][user])
    item = schema.keys.item
    place = schema.history_columns()[[sequence.shares for sequence in schema.behavior].index(item)].start
    behaviors = golden["history"][user, :length, place][-_BEHAVIORS:]
    candidates = golden["item_sparse"][user, :, schema.columns("item")[item].start]
    shown = [c for c in range(len(candidates)) if candidates[c] > UNKNOWN][:_CANDIDATES]
    return {
        "history_length": length,
        "behaviors": [_name(encoder, int(i)) for i in behaviors],
        "candidates": [_name(encoder, int(candidates[c])) for c in shown],
        "weights": [np.round(weight_CL[c, :length][-_BEHAVIORS:].astype(float), 6).tolist() for c in shown],
    }


def _name(encoder: Encoder, index: int) -> str:
    """The raw item id behind an index."""
    if index in (PADDING, UNKNOWN):
        return "unknown"
    vocabulary = encoder.vocabularies[encoder.schema.keys.item]
    return str(vocabulary.keys[index - UNKNOWN - 1]) if isinstance(vocabulary, Vocabulary) else f"row {index}"
