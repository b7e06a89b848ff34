"""A training step's forward pass through the native nodes: what `encode_user` and `score` of a net compute for one
target per row, without the padding, plus the auxiliary loss.

Only speed differs, so the nets stay as they read, and whatever is not listed in `supports` runs through them.
U users with one target each, L history, E width.
"""

from torch import Tensor, nn

from model.nets.attention import TargetAttention
from model.nets.augru import Augru
from model.nets.din import Din
from model.nets.embedding import FeatureEmbedding, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import candidate_part, user_part
from model.nets.gru import Gru
from model.nets.interest import AttendedSum, InterestNet
from model.nets.native.attention import Unit, attend
from model.nets.native.auxiliary import auxiliary_loss
from model.nets.native.gated import gated
from model.nets.native.library import LAYERS, fits
from model.nets.native.lookup import lookup
from model.nets.native.rows import Rows, rows_of

_KNOWN = {"embedding", "attention", "head", "factors", "extractor", "evolution", "discriminator"}


def supports(net: nn.Module, tensors: Tensors) -> bool:
    """Whether `native_forward` computes what `net` does on a batch with one target per row."""
    if type(net) is not Din and not isinstance(net, InterestNet):
        return False
    if not {name for name, _ in net.named_children()} <= _KNOWN:  # a part that was added to the nets since
        return False
    embedding, attention = net.embedding, net.attention
    plain = not embedding.gap_columns and not set(embedding.shared) & set(embedding.pooled)
    whole = all(isinstance(table, nn.Embedding) for table in embedding.tables.values())  # kernels read their memory
    if not plain or not whole or len(embedding.shared) > LAYERS or not isinstance(attention, TargetAttention):
        return False
    if len(list(attention.rest.parameters())) > 2 * LAYERS or tensors["item_sparse"].shape[1] != 1:
        return False
    return fits(*net.parameters()) and (not isinstance(net, InterestNet) or _supports_interest(net))


def _supports_interest(net: InterestNet) -> bool:
    evolution = net.evolution
    known = isinstance(evolution, AttendedSum) or (isinstance(evolution, Augru) and evolution.update == "paper")
    dot = not net.auxiliary_alpha or not list(net.discriminator.parameters())
    return dot and known and _extractors(net) is not None


def native_forward(
    net: Din | InterestNet, tensors: Tensors, negatives_ULF: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """logit [U, 1], and the auxiliary loss if there are negatives. `supports` must have said yes."""
    embedding, rows = net.embedding, rows_of(tensors["history_len"], tensors["history"].shape[1])
    history_ULE, total_UE = _look_up(embedding, tensors["history"], rows)
    pooled_UE = total_UE / rows.count.clamp(min=1)[:, None] ** {"sum": 0.0, "mean": 1.0, "sqrtn": 0.5}[net.pooling]
    keys_ULE = history_ULE
    for gru in _extractors(net) or () if isinstance(net, InterestNet) else ():
        keys_ULE, _ = gated(keys_ULE, None, rows, _weights(gru))
    if isinstance(net, InterestNet) and net.state_share is not None:
        keys_ULE = history_ULE + net.state_share * keys_ULE
    target_UE = embedding.target(tensors)[:, 0]
    weights_UL, read_UE = attend(target_UE, keys_ULE, rows, _unit(net.attention))  # type: ignore[arg-type]  # `supports` knows its kind
    if isinstance(net, InterestNet) and isinstance(net.evolution, Augru):
        attended_UE = read_UE
        _, read_UE = gated(keys_ULE, weights_UL, rows, _weights(net.evolution))
        if net.evolved_share is not None:
            read_UE = attended_UE + net.evolved_share * read_UE
    share_UH = net.head.user_half(user_part(embedding, tensors, pooled_UE))
    state = {"state_pooled": pooled_UE, **factor_state(net.factors, tensors)}
    logit_U1: Tensor = net.head(share_UH, candidate_part(embedding, state, tensors, read_UE[:, None]))
    logit_U1 = add_factors(logit_U1, net.factors, state, tensors)
    if negatives_ULF is None or not isinstance(net, InterestNet):
        return logit_U1, None
    fake_ULE, _ = _look_up(embedding, negatives_ULF, rows)
    return logit_U1, auxiliary_loss(keys_ULE, history_ULE, fake_ULE, rows)


def _look_up(embedding: FeatureEmbedding, ids_ULF: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    columns = [at.start for at in embedding.history_columns]
    if columns != list(range(ids_ULF.shape[2])):
        ids_ULF = ids_ULF[..., columns]
    return lookup(ids_ULF, [embedding.tables[name] for name in embedding.shared], rows)  # type: ignore[misc]  # a ModuleDict's values are nn.Module to mypy


def _extractors(net: InterestNet) -> list[Gru] | None:
    layers = list(net.extractor) if isinstance(net.extractor, nn.Sequential) else [net.extractor]
    found = [layer for layer in layers if isinstance(layer, Gru)]
    return found if len(found) == len(layers) else None


def _weights(gates: Gru | Augru) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gates.input_weight, gates.hidden_weight, gates.input_bias, gates.hidden_bias


def _unit(attention: TargetAttention) -> Unit:
    return Unit(
        query=attention.query_weight,
        key=attention.key_weight,
        product=attention.product_weight,
        bias=attention.bias,
        layers=list(attention.rest.parameters()),
        softmax=attention.softmax,
    )
