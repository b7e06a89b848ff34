"""The weights of a candidate half as named arrays, for a runtime that computes it without ONNX Runtime.

`candidate.npz` holds what `score` of `din` and `dien` reads, in inference form: Dice as p = sigmoid(scale x + shift).
The embedding tables, `table.<feature>` here, are files of their own in a bundle, which the graphs use too.
Shapes: E width of the target, H of what the attention reads, J outputs of a layer; docs/bundle.md lists the arrays.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle.manifest import NativeHalf
from model.nets import Net
from model.nets.agru import AttendedUpdateGru
from model.nets.attention import TargetAttention
from model.nets.augru import Augru, augru_recurrence
from model.nets.din import Din
from model.nets.embedding import FeatureEmbedding
from model.nets.interest import InterestNet
from model.nets.layers import Dice, PRelu, SplitHead
from model.onnx_tables import table_file

NATIVE_FILE = "candidate.npz"

Weights = dict[str, Tensor]


def native_half(net: Net) -> tuple[NativeHalf, dict[str, NDArray[np.generic]]] | None:
    """What the manifest says about the weights, and the weights; None for a net or an item feature no kernel knows."""
    loop = _loop(net)
    if (
        net.factors is not None or getattr(net, "state_share", None) is not None
    ):  # nobody has written a kernel for them yet
        return None
    if net.embedding.pooled.keys() & net.embedding.sparse_names["item"]:  # lists of a candidate
        return None
    if loop is None or not isinstance(net, Din | InterestNet) or not isinstance(net.attention, TargetAttention):
        return None
    weights = {**_tables(net.embedding), **_attention(net.attention), **_head(net.head), **loop}
    half = NativeHalf(
        file=NATIVE_FILE,
        tables={name: table_file(name) for name in net.embedding.sparse_names["item"]},
        kind="dien" if loop else "din",
        softmax=net.attention.softmax,
        activation="dice" if any(isinstance(layer, Dice) for layer in net.head.rest) else "prelu",
    )
    return half, {name: _array(tensor) for name, tensor in weights.items()}


def _tables(embedding: FeatureEmbedding) -> Weights:
    return {f"table.{name}": embedding.tables[name].get_parameter("weight") for name in embedding.sparse_names["item"]}


def _loop(net: Net) -> Weights | None:
    """The weights of AUGRU's loop in the paper's form, on which AGRU runs too; none in DIN; None for other nets."""
    if isinstance(net, InterestNet) and isinstance(net.evolution, Augru | AttendedUpdateGru):
        loop = net.evolution
        known = loop.recurrence is augru_recurrence
        return {"augru.weight": loop.loop_weight(), "augru.bias": loop.loop_bias()} if known else None
    return {} if isinstance(net, Din) else None


def _attention(attention: TargetAttention) -> Weights:
    return {
        "attention.query": attention.query_weight,
        "attention.key": attention.key_weight,
        "attention.product": attention.product_weight,
        "attention.bias": attention.bias,
        **_linears("attention", attention.rest),
    }


def _head(head: SplitHead) -> Weights:
    weights = {"head.candidate": head.candidate_weight, **_linears("head", head.rest)}
    activations = [layer for layer in head.rest if isinstance(layer, Dice | PRelu)]
    for i, activation in enumerate(activations):
        weights[f"head.{i}.alpha"] = activation.alpha
        if isinstance(activation, Dice):
            scale = torch.rsqrt(activation.variance + activation.eps)
            weights |= {f"head.{i}.scale": scale, f"head.{i}.shift": -activation.mean * scale}
    return weights


def _linears(part: str, layers: nn.Sequential) -> Weights:
    """Layer i of `part` as weight [J, inputs] and bias [J]; number 0 is the first one, stored apart."""
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights: Weights = {}
    for i, linear in enumerate(linears, start=1):
        weights |= {f"{part}.{i}.weight": linear.weight, f"{part}.{i}.bias": linear.bias}
    return weights


def _array(tensor: Tensor) -> NDArray[np.generic]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
