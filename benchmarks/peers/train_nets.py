"""The peers' own DIN and DIEN behind one face. Runs only where their packages are (`benchmarks.train_peers`).

Sizes: embedding `dim`, attention 80-40, head 200-80; features user id, item, category and the history of both.
B rows, L history; histories are padded with 0 at the end. Everything not named here is the peer's default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from deepctr_torch import inputs as deepctr_inputs
from deepctr_torch import models as deepctr_models
from torch import Tensor, nn
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models import ranking as rechub

Batch = Mapping[str, Tensor]
ATTENTION, HEAD = (80, 40), (200, 80)
_HISTORY = ("item_id", "cate_id")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a net is built for. `vocab` holds rows by feature, padding included; `history` is L."""

    vocab: Mapping[str, int]
    history: int
    dim: int = 16
    user_id: bool = True


@dataclass(frozen=True, kw_only=True)
class PeerNet:
    """A peer's net. `loss` is what its own trainer minimises, `pctr` its prediction [B]."""

    module: nn.Module
    loss: Callable[[Batch], Tensor]
    pctr: Callable[[Batch], Tensor]


def build(peer: str, kind: str, shape: Shape) -> PeerNet:
    """The peer's `din` or `dien`, initialised from torch's global generator."""
    return {"torch-rechub": _rechub, "deepctr-torch": _deepctr}[peer](kind, shape)


def batch_of(columns: Mapping[str, "np.ndarray"], rows: "np.ndarray", items: "np.ndarray", seed: int) -> Batch:
    """Rows of the columns as tensors, with negatives for the auxiliary loss: uniform items, and their categories.

    columns  label, user_id, item_id, cate_id [N]; hist_item_id, hist_cate_id [N, L]; length [N]
    items    category by item id
    """
    taken = {name: column[rows] for name, column in columns.items()}
    real = taken["hist_item_id"] > 0
    drawn = np.random.default_rng((seed, int(rows[0]))).integers(1, len(items), real.shape) * real
    negatives = {"neg_item_id": drawn, "neg_cate_id": items[drawn] * real}
    return {name: torch.from_numpy(column) for name, column in {**taken, **negatives}.items()}


def _rechub(kind: str, shape: Shape) -> PeerNet:
    def sequence(prefix: str, name: str) -> object:
        sizes = {"vocab_size": shape.vocab[name], "embed_dim": shape.dim}
        return SequenceFeature(f"{prefix}_{name}", pooling="concat", shared_with=name, padding_idx=0, **sizes)

    def sparse(name: str) -> object:
        return SparseFeature(name, shape.vocab[name], embed_dim=shape.dim, padding_idx=0)

    features = [sparse("user_id")] if shape.user_id else []
    history, target = [sequence("hist", n) for n in _HISTORY], [sparse(n) for n in _HISTORY]
    head, criterion = {"dims": list(HEAD)}, nn.BCELoss()
    if kind == "din":
        net = rechub.DIN(features, history, target, head, {"dims": list(ATTENTION)})
        return PeerNet(module=net, loss=lambda b: criterion(net(b), b["label"]), pctr=net)
    negatives = [sequence("neg", n) for n in _HISTORY]
    dien = rechub.DIEN(features, history, negatives, target, head)

    def loss(batch: Batch) -> Tensor:
        pctr, auxiliary = dien(batch)
        return criterion(pctr, batch["label"]) + auxiliary

    return PeerNet(module=dien, loss=loss, pctr=lambda b: dien(b)[0])


def _deepctr(kind: str, shape: Shape) -> PeerNet:
    def sequence(prefix: str, name: str) -> object:
        table = deepctr_inputs.SparseFeat(
            f"{prefix}{name}", shape.vocab[name], embedding_dim=shape.dim, embedding_name=name
        )
        return deepctr_inputs.VarLenSparseFeat(table, maxlen=shape.history, length_name="length")

    names = (["user_id"] if shape.user_id else []) + list(_HISTORY)
    columns = [deepctr_inputs.SparseFeat(n, shape.vocab[n], embedding_dim=shape.dim) for n in names]
    columns += [sequence("hist_", n) for n in _HISTORY]
    if kind == "din":
        net = deepctr_models.DIN(columns, list(_HISTORY), dnn_hidden_units=HEAD, att_hidden_size=ATTENTION)
    else:
        columns += [sequence("neg_hist_", n) for n in _HISTORY]
        sizes = {"dnn_hidden_units": HEAD, "att_hidden_units": ATTENTION}
        net = deepctr_models.DIEN(columns, list(_HISTORY), gru_type="AUGRU", use_negsampling=True, **sizes)

    def matrix(batch: Batch) -> Tensor:
        renamed = {n.replace("neg_", "neg_hist_"): batch[n] for n in batch}
        parts = [renamed[n].reshape(len(batch["label"]), -1) for n in net.feature_index]
        return torch.cat(parts, dim=1).float()  # as its `fit` does

    def loss(batch: Batch) -> Tensor:
        pctr = net(matrix(batch))[:, 0]
        summed = nn.functional.binary_cross_entropy(pctr, batch["label"], reduction="sum")
        return (summed + net.get_regularization_loss() + net.aux_loss).sum()

    return PeerNet(module=net, loss=loss, pctr=lambda b: net(matrix(b))[:, 0])
