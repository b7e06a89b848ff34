"""Target attention and the attended history as one autograd node, over the real behaviors only.

U users with one target each, L history, E width, J hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.nets.native.library import LAYERS, Attention, Layer, address, chunks, loaded, padded
from model.nets.native.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The weights of model.nets.attention.TargetAttention, in its layout."""

    query: Tensor  # [E, J]
    key: Tensor  # [E, J]
    product: Tensor  # [E, J]
    bias: Tensor  # [J]
    layers: Sequence[Tensor]  # weight and bias of every later layer in turn; the last one has one output
    softmax: bool


def attend(query_UE: Tensor, keys_ULE: Tensor, rows: Rows, unit: Unit) -> tuple[Tensor, Tensor]:
    """Weights [U, L], 0 past the end of a history, and the keys' sum weighted by them [U, E]."""
    tensors = (query_UE, keys_ULE, unit.query, unit.key, unit.product, unit.bias, *unit.layers)
    weights_UL, attended_UE = _Attend.apply(rows, unit.softmax, *tensors)  # type: ignore[no-untyped-call]  # torch's
    return weights_UL, attended_UE


def fits_layers(layers: Sequence[Tensor]) -> bool:
    """Whether the kernel has room for so many."""
    return len(layers) <= 2 * LAYERS


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Rows, softmax: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        tensors = tuple(t.contiguous() for t in tensors)
        query_UE, keys_ULE = tensors[:2]
        weights_UL, attended_UE = keys_ULE.new_empty(keys_ULE.shape[:2]), torch.empty_like(query_UE)
        job = _job(rows, softmax, tensors, weights_UL)
        job.attended = address(attended_UE)
        loaded().run("attention_forward", job)
        ctx.rows, ctx.softmax = rows, softmax
        ctx.save_for_backward(weights_UL, *tensors)
        ctx.set_materialize_grads(False)
        return weights_UL, attended_UE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        weights_UL, *tensors = ctx.saved_tensors
        query_UE, keys_ULE, query_EJ, *_ = tensors
        (E, J), n = query_EJ.shape, chunks(len(query_UE))
        Ep = padded(E)
        d_weights, d_attended = (None if g is None else g.contiguous() for g in grads)
        d_query, d_keys = torch.empty_like(query_UE), torch.empty_like(keys_ULE)
        first = keys_ULE.new_empty(n, 3 * Ep + 1, padded(J))
        later = [keys_ULE.new_empty(n, padded(w.shape[1]) + 1, _columns(w)) for w in tensors[6::2]]
        job = _job(ctx.rows, ctx.softmax, tensors, weights_UL)
        job.d_weights, job.d_attended = address(d_weights), address(d_attended)
        job.d_query, job.d_keys, job.partial = address(d_query), address(d_keys), address(first)
        for i, partial in enumerate(later):
            job.layer[i].partial = address(partial)
        loaded().run("attention_backward", job)
        total = first.sum(0)[:, :J]
        out = [d_query, d_keys, *(total[i * Ep : i * Ep + E] for i in range(3)), total[3 * Ep]]
        for partial, weight in zip(later, tensors[6::2], strict=True):
            both = partial.sum(0)[:, : weight.shape[0]]
            out += [both[: weight.shape[1]].T, both[-1]]
        return None, None, *out


def _columns(weight: Tensor) -> int:
    """Of a layer's gradient: whole vectors, but for the last layer."""
    return 1 if weight.shape[0] == 1 else padded(weight.shape[0])


def _job(rows: Rows, softmax: bool, tensors: Sequence[Tensor], weights_UL: Tensor) -> Attention:
    query_UE, keys_ULE, query_EJ, key_EJ, product_EJ, bias_J, *layers = tensors
    job = Attention(
        rows=len(query_UE),
        length=keys_ULE.shape[1],
        width=query_UE.shape[1],
        hidden=len(bias_J),
        softmax=softmax,
        layers=len(layers) // 2,
        threads=torch.get_num_threads(),
        order=address(rows.order),
        count=address(rows.count),
        query=address(query_UE),
        keys=address(keys_ULE),
        query_weight=address(query_EJ),
        key_weight=address(key_EJ),
        product_weight=address(product_EJ),
        bias=address(bias_J),
        weights=address(weights_UL),
    )
    for i, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
        outputs, inputs = weight.shape
        job.layer[i] = Layer(inputs=inputs, outputs=outputs, weight=address(weight), bias=address(bias))
    return job
