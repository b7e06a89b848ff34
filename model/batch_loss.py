"""The loss of one batch, on the device and in the precision that the run asks for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle.encode import Tensors
from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids
from model.data.negatives import NegativeSampler
from model.data.rows import Drawn
from model.nets import Net
from model.nets.interest import InterestNet
from model.nets.native.forward import native_forward, supports
from model.optimizer import trained_tables
from model.ranks import ALONE
from model.synchronised import Cut, parallel
from model.table_shards import fetch_rows
from model.train_config import TrainConfig


class BatchLoss:
    """Binary cross-entropy on the logits, plus the auxiliary loss of the nets that have one and a sampler, plus L2 of
    what was looked up.
    """

    def __init__(
        self, net: Net, config: TrainConfig, *, sampler: NegativeSampler | None, cut: Cut | None = None
    ) -> None:
        """Of several ranks each looks at its `cut` of a batch; the mean of their losses is that of the whole batch."""
        self._net, self._device = net, next(net.parameters()).device
        alpha = net.auxiliary_alpha if isinstance(net, InterestNet) else 0.0
        self._sampler = sampler if alpha > 0 else None
        self._cut = cut or Cut(ALONE)
        loss = _Loss(net, config, alpha=alpha, cut=self._cut)
        unused = (
            isinstance(net, InterestNet) and self._sampler is None and any(True for _ in net.discriminator.parameters())
        )
        self._loss = parallel(loss, self._cut.ranks, apart=trained_tables(net).values(), unused=unused)

    def __call__(self, batch: Tensors, rng: np.random.Generator, drawn: Drawn | None = None) -> Tensor:
        """The scalar to minimise; `batch` are the rows of `drawn` (None: a whole batch), and negatives for all of them
        are drawn from `rng`.
        """
        rows = len(batch["label"])
        drawn = drawn or Drawn(rows=np.arange(rows), size=rows)
        negatives_BLF = self._negatives(batch, rng, drawn)
        part = self._cut.take(drawn)
        tensors = {name: torch.from_numpy(tensor[part]).to(self._device) for name, tensor in batch.items()}
        negatives = None if negatives_BLF is None else torch.from_numpy(negatives_BLF[part]).to(self._device)
        fetch_rows(self._net, tensors, negatives)
        loss: Tensor = self._loss(tensors, negatives)
        return loss

    def _negatives(self, batch: Tensors, rng: np.random.Generator, drawn: Drawn) -> NDArray[np.generic] | None:
        if self._sampler is None:
            return None
        logged = batch.get("negatives")
        if logged is not None:
            return logged
        history: Ids = batch["history"]  # type: ignore[assignment]  # int64 by contract
        lengths: Ids = batch["history_len"]  # type: ignore[assignment]  # as above
        return np.concatenate([self._sampler.sample(history[at], lengths[at], own) for at, own in drawn.lanes(rng)])


class _Loss(nn.Module):
    """The loss as a module, which is what DistributedDataParallel takes."""

    def __init__(self, net: Net, config: TrainConfig, *, alpha: float, cut: Cut) -> None:
        super().__init__()
        self.net, self._alpha, self._cut = net, alpha, cut
        self._half = config.precision == "bfloat16"
        self._encode_user, self._score = net.encode_user, net.score
        if config.compile:
            self._encode_user = torch.compile(net.encode_user, dynamic=True)
            self._score = torch.compile(net.score, dynamic=True)
        self._plain = not self._half and not config.compile
        self._lookup_l2 = config.lookup_l2
        tables = [net.embedding, *([] if net.factors is None else [net.factors.ids])]
        self._shrunk = tables if config.lookup_l2 > 0 else []

    def forward(self, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        """The weighted loss of this rank's rows."""
        label_U = tensors["label"]
        with torch.autocast(label_U.device.type, dtype=torch.bfloat16, enabled=self._half):
            logit_U1, auxiliary = self._forward(tensors, negatives)
            loss = nn.functional.binary_cross_entropy_with_logits(logit_U1[:, 0].float(), label_U)
            for embedding in self._shrunk:
                loss = loss + self._lookup_l2 * embedding.squared_lengths(tensors)
            loss = self._cut.weighted(loss)
            if auxiliary is None:
                return loss
            return loss + self._alpha * self._cut.weighted(auxiliary, (tensors["history_len"] - 1).clamp(min=0).sum())

    def _forward(self, tensors: dict[str, Tensor], negatives: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The logits [U, 1], and the auxiliary loss if there are negatives."""
        if self._plain and supports(self.net, tensors):
            return native_forward(self.net, tensors, negatives)  # type: ignore[arg-type]  # checked by `supports`
        state = self._encode_user(tensors)
        logit_U1 = self._score(state, tensors)
        if negatives is None or not isinstance(self.net, InterestNet):
            return logit_U1, None
        return logit_U1, self.net.auxiliary_loss(state, tensors["history"], negatives)


def training_device(config: TrainConfig) -> torch.device:
    """Where to train. Raises ConfigError for a name that torch does not know and for a GPU that is not there."""
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if config.device not in there:
        allowed = "here one of " + ", ".join(there)
        raise ConfigError(file="config", key="train.device", found=config.device, allowed=allowed)
    return torch.device(config.device)


@contextmanager
def adapted(net: Net, config: TrainConfig) -> Iterator[None]:
    """Inside, the net does what `train.precision` and `train.compile` ask for as far as it can: recurrences compute in
    float32, and they (which would be unrolled) and lookups with sparse gradients stay out of what is compiled.

    Raises ConfigError if `train.compile` is set and there is no compiler.
    """
    if config.compile:
        _check_compiler()
    recurrent = {module: vars(module)["recurrence"] for module in net.modules() if "recurrence" in vars(module)}
    apart = [m for m in net.modules() if isinstance(m, nn.Embedding) or m in recurrent] if config.compile else []
    if config.precision != "float32":
        for module, recurrence in recurrent.items():
            vars(module)["recurrence"] = _in_float32(recurrence)
    for module in apart:  # on the instance, where it hides the class's
        module.forward = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]  # torch's
    try:
        yield
    finally:
        for module in apart:
            del module.forward
        for module, recurrence in recurrent.items():
            vars(module)["recurrence"] = recurrence


def _in_float32(recurrence: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return recurrence(*(tensor.float() for tensor in tensors))

    return run


def _check_compiler() -> None:
    try:
        torch.compile(torch.tanh)(torch.zeros(2))
    except Exception as error:  # torch wraps what a compiler says in errors of many kinds
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(file="config", key="train.compile", found=why, allowed="false, or a C++ compiler") from error
