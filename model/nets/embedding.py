"""Embedding tables by feature, shared between the candidate and the behaviors that carry the same field.

Shapes: U users, C candidates per user, L history, E width of one behavior (its shared fields side by side).
"""

from collections.abc import Iterator, Mapping
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

    def __init__(self, schema: Schema, sizes: Mapping[str, int], *, max_norm: float = 0.0) -> None:
        """`max_norm` bounds the length of every row of every table, see `limit_norms`; 0 does not."""
        super().__init__()
        sparse = [f for side in SIDES for f in schema.sparse(side)]
        self.tables = nn.ModuleDict({f.name: _table(sizes[f.name], f.dim) for f in sparse})
        self.shared = [sequence.shares for sequence in schema.behavior]
        self.pooled = {f.name: f.pooling for f in sparse if f.kind == "multi"}
        self.columns: dict[str, dict[str, slice]] = {side: schema.columns(side) for side in SIDES}
        self.history_columns, self.gap_columns = schema.history_columns(), schema.gap_columns()
        self.sparse_names = {side: [f.name for f in schema.sparse(side)] for side in SIDES}
        self.request_width = sum(_width(schema.features(side)) for side in ("user", "context"))
        self.behavior_width = sum(schema.item_feature(name).dim for name in self.shared)
        self.item_extra_width = _width(schema.item) - sum(schema.item_feature(n).dim for n in set(self.shared))
        self.has_dense: dict[str, bool] = {side: bool(schema.dense(side)) for side in SIDES}
        self.gaps = nn.ParameterDict({gap: torch.zeros(GAP_ROWS, self.behavior_width) for gap in self.gap_columns})
        self.max_norm = max_norm
        self.limit_norms()

    def request(self, request: Tensors) -> list[Tensor]:
        """User and context features, each [U, dim] or [U, D]; an empty list if there are none."""
        return [part for side in ("user", "context") for part in self._side(side, request, leave_out=())]

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

    def item_extra(self, candidates: Tensors) -> list[Tensor]:
        """The candidate's other features, each [U, C, dim] or [U, C, D]; an empty list if there are none."""
        return self._side("item", candidates, leave_out=self.shared)

    def touched(self, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Feature and the rows of its table that a batch of encoded tensors reads: ascending, each once, no padding.

        `history` and `negatives` count for the tables that they share. A table that nothing reads is left out.
        """
        for name in self.tables:
            sides = [(side, columns[name]) for side, columns in self.columns.items() if name in columns]
            rows = [tensors[f"{side}_sparse"][..., at] for side, at in sides]
            behaviors = [tensors[kind] for kind in ("history", "negatives") if kind in tensors]
            shared = [at for n, at in zip(self.shared, self.history_columns, strict=True) if n == name]
            rows += [ids[..., at] for ids in behaviors for at in shared]
            touched = torch.unique(torch.cat([ids.flatten() for ids in rows]))
            yield name, touched[touched != PADDING]

    @torch.no_grad()
    def limit_norms(self, tensors: Tensors | None = None) -> None:
        """Shorten every row longer than `max_norm` to it: the rows that a batch of `tensors` reads, or all.

        Training calls this after each step, so the tables that are exported keep to it too.
        """
        if not self.max_norm:
            return
        everything = ((name, None) for name in self.tables)
        for name, rows in self.touched(tensors) if tensors is not None else everything:
            weight = self.tables[name].get_parameter("weight")
            if rows is None:
                weight.renorm_(2, 0, self.max_norm)
            else:
                weight[rows] = weight[rows].renorm(2, 0, self.max_norm)

    def _side(self, side: str, tensors: Tensors, *, leave_out: "list[str] | tuple[str, ...]") -> list[Tensor]:
        wanted = [(name, at) for name, at in self.columns[side].items() if name not in leave_out]
        parts = [self._embed(name, tensors[f"{side}_sparse"][..., at]) for name, at in wanted]
        return parts + ([tensors[f"{side}_dense"]] if self.has_dense[side] else [])

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
