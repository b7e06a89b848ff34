"""`pnn`: the inner products of all pairs of fields beside `base` (IPNN; Qu et al., ICDM 2016, section III-A).

Fields are the sparse features and the pooled fields of the history. Where they differ in width, each is brought to the
widest by a matrix of its own. Pairs of user fields belong to the user half. U users, C candidates, F fields, E width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import FrameConfig, candidate_part, make_factors, make_head, read_history, user_part


class PnnConfig(FrameConfig):
    """Settings of `pnn`."""


class Pnn(nn.Module):
    """Head over what `base` sees and [products of user fields | products of item fields, and of both sides' fields]."""

    candidate_tile = 0

    def __init__(self, config: PnnConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes, max_norm=config.max_norm)
        self.pooling: Pooling = config.pooling
        self.behavior_widths = [schema.item_feature(name).dim for name in self.embedding.shared]
        request = [f.dim for side in ("user", "context") for f in schema.sparse(side)]
        extra = [f.dim for f in schema.sparse("item") if f.name not in self.embedding.shared]
        width = max(request + self.behavior_widths + extra)
        self.user_fields = _Fields(request + self.behavior_widths, width)
        self.item_fields = _Fields(self.behavior_widths + extra, width)
        both = len(self.user_fields.maps) * len(self.item_fields.maps)
        user, item = self.user_fields.pairs, self.item_fields.pairs
        self.head = make_head(config, self.embedding, reads=item + both, user_reads=user)
        self.factors = make_factors(config, schema, sizes)

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        _, _, pooled_UE = read_history(self.embedding, request, self.pooling)
        fields = [*self.embedding.request(request, dense=False), *torch.split(pooled_UE, self.behavior_widths, dim=-1)]
        fields_UFE = self.user_fields(fields)
        part_UD = user_part(self.embedding, request, pooled_UE, *self.user_fields.products(fields_UFE))
        return {
            "state_share": self.head.user_half(part_UD),
            "state_pooled": pooled_UE,
            "state_fields": fields_UFE,
            **factor_state(self.factors, request),
        }

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        target = torch.split(self.embedding.target(candidates), self.behavior_widths, dim=-1)
        fields_UCFE = self.item_fields([*target, *self.embedding.item_extra(candidates, dense=False)])
        both_UCFF = fields_UCFE @ state["state_fields"][:, None].transpose(-1, -2)
        products = [*self.item_fields.products(fields_UCFE), both_UCFF.flatten(-2)]
        logit_UC: Tensor = self.head(state["state_share"], candidate_part(self.embedding, state, candidates, *products))
        return add_factors(logit_UC, self.factors, state, candidates)

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)


class _Fields(nn.Module):
    """Fields of one side, each [..., its width], as [..., F, E]."""

    pair: Tensor

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Identity() if w == width else nn.Linear(w, width, bias=False) for w in widths)
        first, second = torch.triu_indices(len(widths), len(widths), offset=1)
        self.pairs = len(first)
        self.register_buffer("pair", first * len(widths) + second, persistent=False)

    def forward(self, fields: list[Tensor]) -> Tensor:
        return torch.stack([to_width(field) for to_width, field in zip(self.maps, fields, strict=True)], dim=-2)

    def products(self, fields_XFE: Tensor) -> list[Tensor]:
        """Inner products of all pairs, [..., pairs]; an empty list where there is one field only."""
        products_XFF = fields_XFE @ fields_XFE.transpose(-1, -2)
        return [products_XFF.flatten(-2)[..., self.pair]] if self.pairs else []
