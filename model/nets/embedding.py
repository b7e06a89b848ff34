"""Embedding tables by feature, shared between the candidate and the behaviors that carry the same field.

Shapes: U users, C candidates per user, L history, E width of one behavior (its shared fields side by side).
"""

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from model.bundle.gaps import GAP_ROWS
from model.bundle.schema import FIRST_ID, PADDING, SIDES, Feature, Schema

Tensors = Mapping[str, Tensor]
Pooling = Literal["sum", "mean", "sqrtn"]  # the names of TensorFlow's combiners

# Drawn as in the public DIN code's neighbourhood: 1e-4 leaves DIEN at AUC 0.5, 0.01 costs 0.03 on beauty_next.
EMBEDDING_STD = 0.05


class FeatureEmbedding(nn.Module):
    """Index tensors to vectors. `sizes` are the vocabulary sizes by sparse feature, padding and unknown included.

    The rows of padding and unknown start at zero: padding stays there, unknown means "nothing is known". The embeddings
    of a list are pooled. A behavior's gaps are added to it as a transformer adds positions, so a candidate needs none,
    and a net that learns nothing from them is the one without.
    """

    def __init__(
        self, schema: Schema, sizes: Mapping[str, int], *, max_norm: float = 0.0, items: Collection[str] = ()
    ) -> None:
        """`max_norm` bounds the length of every row; 0 does not. Training keeps it after each step (`NetOptimizer`).

        `items` are the item features to embed, by default all.
        """
        super().__init__()
        sparse = [f for side in SIDES for f in schema.sparse(side) if side != "item" or not items or f.name in items]
        self.tables = nn.ModuleDict({f.name: _table(sizes[f.name], f.dim) for f in sparse})
        fields = zip((sequence.shares for sequence in schema.behavior), schema.history_columns(), strict=True)
        kept = [(name, at) for name, at in fields if name in self.tables]
        self.shared, self.history_columns = [name for name, _ in kept], [at for _, at in kept]
        self.pooled = {f.name: f.pooling for f in sparse if f.kind == "multi"}
        self.columns: dict[str, dict[str, slice]] = {
            side: {name: at for name, at in schema.columns(side).items() if name in self.tables} for side in SIDES
        }
        self.gap_columns = schema.gap_columns()
        self.sparse_names = {side: [f.name for f in schema.sparse(side)] for side in SIDES}
        self.request_width = sum(_width(schema.features(side)) for side in ("user", "context"))
        self.behavior_width = sum(schema.item_feature(name).dim for name in self.shared)
        self.item_extra_width = _width(schema.item) - sum(schema.item_feature(n).dim for n in set(self.shared))
        self.has_dense: dict[str, bool] = {side: bool(schema.dense(side)) for side in SIDES}
        self.gaps = nn.ParameterDict({gap: torch.zeros(GAP_ROWS, self.behavior_width) for gap in self.gap_columns})
        self.max_norm = max_norm
        if max_norm:
            with torch.no_grad():
                for table in self.tables.values():
                    table.get_parameter("weight").renorm_(2, 0, max_norm)

    def request(self, request: Tensors, *, dense: bool = True) -> list[Tensor]:
        """User and context features, each [U, dim] or, unless told to leave it out, [U, D]; empty without any."""
        sides = ("user", "context")
        return [part for side in sides for part in self._side(side, request, leave_out=(), dense=dense)]

    def history(self, history_ULF: Tensor) -> Tensor:
        """Behaviors [U, L, F] -> [U, L, E]."""
        fields = zip(self.shared, self.history_columns, strict=True)
        history_ULE = torch.cat([self._embed(name, history_ULF[..., at]) for name, at in fields], dim=-1)
        for gap, at in self.gap_columns.items():
            history_ULE = history_ULE + nn.functional.embedding(history_ULF[..., at], self.gaps[gap], PADDING)
        return history_ULE

    def target(self, candidates: Tensors) -> Tensor:
        """The candidate's fields that behaviors have too, in the behaviors' order: [U, C, E]."""
        sparse_UCF, columns = candidates["item_sparse"], self.columns["item"]
        return torch.cat([self._embed(name, sparse_UCF[..., columns[name]]) for name in self.shared], dim=-1)

    def item_extra(self, candidates: Tensors, *, dense: bool = True) -> list[Tensor]:
        """The candidate's other features, each [U, C, dim] or, unless told to leave it out, [U, C, D]; may be empty."""
        return self._side("item", candidates, leave_out=self.shared, dense=dense)

    def squared_lengths(self, tensors: Tensors) -> Tensor:
        """Mean over the rows of a batch of the squared lengths of what `request`, `target` and `item_extra` look up.

        Behaviors are left out: they share their tables with candidates, and there are many of them.
        """
        parts = [*self.request(tensors, dense=False), *self._side("item", tensors, leave_out=(), dense=False)]
        return torch.stack([part.square().sum(-1).mean() for part in parts]).sum()

    def _side(self, side: str, tensors: Tensors, *, leave_out: Collection[str], dense: bool) -> list[Tensor]:
        wanted = [(name, at) for name, at in self.columns[side].items() if name not in leave_out]
        parts = [self._embed(name, tensors[f"{side}_sparse"][..., at]) for name, at in wanted]
        return parts + ([tensors[f"{side}_dense"]] if dense and self.has_dense[side] else [])

    def _embed(self, name: str, ids: Tensor) -> Tensor:
        """The vectors [..., dim] of one feature's columns [..., places]; a list's are pooled, 0 for an empty one."""
        if name not in self.pooled:
            vectors: Tensor = self.tables[name](ids[..., 0])
            return vectors
        total: Tensor = self.tables[name](ids).sum(-2)
        if self.pooled[name] == "sum":
            return total
        return total / (ids != PADDING).sum(-1, keepdim=True).clamp(min=1).to(total.dtype)


def mask_from_length(history_ULF: Tensor, history_len_U: Tensor) -> Tensor:
    """[U, L] float, 1 where a behavior is and 0 where padding is."""
    # Counted along the history itself: a traced graph would keep the device of an arange for good.
    position_UL = torch.ones_like(history_ULF[..., 0]).cumsum(1)
    return (position_UL <= history_len_U[:, None]).to(torch.float32)


def pool_history(history_ULE: Tensor, mask_UL: Tensor, pooling: Pooling) -> Tensor:
    """[U, E]: the sum over real positions, divided by nothing, their number, or its root; 0 for an empty history."""
    total_UE = (history_ULE * mask_UL[..., None]).sum(1)
    count_U1 = mask_UL.sum(1, keepdim=True).clamp(min=1)
    return total_UE / count_U1 ** {"sum": 0.0, "mean": 1.0, "sqrtn": 0.5}[pooling]


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    with torch.no_grad():
        table.weight[:FIRST_ID] = 0
    return table


def _width(features: tuple[Feature, ...]) -> int:
    return sum(f.dim if f.embedded else 1 for f in features)
