"""The behaviors of a batch and their sum as one autograd node, with a gradient that names each row of a table once.

U users, L history, F columns of ids, E width of a behavior.
"""

from collections.abc import Sequence
from ctypes import addressof, c_int64
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from model.nets.native.library import Gather, Lookup, Table, address, loaded
from model.nets.native.rows import Rows


def lookup(ids_ULF: Tensor, tables: Sequence[nn.Embedding], rows: Rows) -> tuple[Tensor, Tensor]:
    """Each column's vectors side by side [U, L, E], 0 past the end of a history, and their sum over it [U, E].

    Column i belongs to `tables[i]`. As with padding of `nn.Embedding`, row 0 gets no gradient.
    """
    sparse = tables[0].sparse
    out_ULE, total_UE = _Lookup.apply(ids_ULF.contiguous(), rows, sparse, *(t.weight for t in tables))  # type: ignore[no-untyped-call]  # torch's
    return out_ULE, total_UE


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids_ULF: Tensor, rows: Rows, sparse: bool, *weights: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        U, L, F = ids_ULF.shape
        E = sum(weight.shape[1] for weight in weights)
        out_ULE, total_UE = weights[0].new_empty(U, L, E), weights[0].new_empty(U, E)
        job = Lookup(
            rows=U,
            length=L,
            fields=F,
            width=E,
            threads=torch.get_num_threads(),
            count=address(rows.count),
            ids=address(ids_ULF),
            out=address(out_ULE),
            total=address(total_UE),
        )
        for i, weight in enumerate(weights):
            job.table[i] = Table(weight=address(weight), rows=weight.shape[0], dim=weight.shape[1])
        loaded().run("lookup", job)
        ctx.ids_ULF, ctx.rows, ctx.sparse, ctx.shapes = ids_ULF, rows, sparse, [w.shape for w in weights]
        ctx.set_materialize_grads(False)
        return out_ULE, total_UE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        d_out, d_total = (None if g is None else g.contiguous() for g in grads)
        given = d_out if d_out is not None else d_total
        if given is None:
            return (None,) * (3 + len(ctx.shapes))
        U, L, F = ctx.ids_ULF.shape
        E, first, out = sum(dim for _, dim in ctx.shapes), 0, []
        for field, (size, dim) in enumerate(ctx.shapes):
            most = min(size, U * L)
            touched, sums, found = torch.empty(most, dtype=torch.int64), given.new_empty(most, dim), c_int64()
            job = Gather(rows=U, length=L, fields=F, field=field, dim=dim, width=E, first=first)
            job.count, job.ids, job.place = address(ctx.rows.count), address(ctx.ids_ULF), address(_places(size))
            job.d_out, job.d_total = address(d_out), address(d_total)
            job.touched, job.sums, job.found = address(touched), address(sums), addressof(found)
            loaded().run("gather", job)
            out.append(_gradient(touched[: found.value], sums[: found.value], size, sparse=ctx.sparse))
            first += dim
        return None, None, None, *out


def _gradient(touched: Tensor, sums: Tensor, size: int, *, sparse: bool) -> Tensor:
    if sparse:
        return torch.sparse_coo_tensor(touched[None], sums, (size, sums.shape[1]), check_invariants=False)
    return sums.new_zeros(size, sums.shape[1]).index_copy_(0, touched, sums)


@cache
def _places(size: int) -> Tensor:
    """All -1. The kernel leaves it so, and a table of a million rows is not written to for a batch of a thousand."""
    return torch.full((size,), -1, dtype=torch.int32)
