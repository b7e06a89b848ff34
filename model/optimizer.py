"""One training step's update: AdamW on the dense weights, rows only on the embedding tables.

Tables are the `nn.Embedding` modules of a net; each is called after the sparse feature that it embeds, the last part of
its name, so that the impressions of an id are found.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model.ranks import ALONE, Ranks
from model.regularisation import l2_gradient
from model.row_optimizer import RowAdagrad, RowAdam, touched_rows
from model.schedule import rate_factor
from model.table_shards import sharded_tables
from model.train_config import TrainConfig

_WIDE = "wide."  # tables of linear weights: max-norm is for vectors
_Rows = tuple[Tensor, Tensor]  # the touched rows [T] of a table and their gradients [T, E]


class NetOptimizer:
    """Backward, clipping, regularisation and update of one batch after another, at the scheduled learning rate."""

    def __init__(
        self,
        net: nn.Module,
        config: TrainConfig,
        *,
        steps_per_epoch: int,
        impressions: Mapping[str, Tensor] | None = None,
        max_norm: float = 0.0,
    ) -> None:
        """`impressions` by feature as `regularisation.impressions_by_table`; needed if `embedding_l2` > 0.

        A touched row longer than `max_norm` is shortened to it after the step; 0 leaves them free.
        """
        self._max_norm = max_norm
        self._config, self._steps_per_epoch, self._impressions = config, steps_per_epoch, impressions or {}
        self.steps = 0
        self._sharded = sharded_tables(net)  # of these only the rows of this rank
        self._tables: dict[str, Tensor] = {name: table.weight for name, table in trained_tables(net).items()}
        self._tables |= {name: table.weight for name, table in self._sharded.items()}
        in_table = {id(weight) for weight in self._tables.values()}
        self._dense = {n: p for n, p in net.named_parameters() if p.requires_grad and id(p) not in in_table}
        by_row = {} if config.embedding_optimizer == "dense_adam" else self._tables
        self._by_row = {name: _row_optimizer(weight, config) for name, weight in by_row.items()}
        self._adam = torch.optim.AdamW(self._groups(), lr=config.learning_rate, fused=True)

    def step(self, loss: Tensor, *, ranks: Ranks = ALONE) -> None:
        """Update the net by the gradient of `loss`, a scalar; of several ranks, by the mean of their gradients.

        Dense weights bring that mean from their backward pass (`synchronised.parallel`).
        """
        for weight in (*self._dense.values(), *self._tables.values()):
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        with torch.no_grad():
            rows = {n: touched_rows(w.grad) for n, w in self._tables.items() if w.grad is not None}
            rows |= {n: touched for n, table in self._sharded.items() if (touched := table.touched()) is not None}
            rows = ranks.mean_rows(rows)
            self._clip(rows)
            rows |= {n: table.own(*rows[n]) for n, table in self._sharded.items() if n in rows}
            self._regularise(rows)
            self._update(rows)
        self.steps += 1

    @property
    def rate(self) -> float:
        """The learning rate of the newest step, that of tables apart."""
        return self._config.learning_rate * self._factor(max(self.steps - 1, 0))

    def _factor(self, step: int) -> float:
        return rate_factor(step, config=self._config, steps_per_epoch=self._steps_per_epoch)

    def _groups(self) -> list[dict[str, object]]:
        """Weight decay is for matrices: a bias or Dice's alpha at 0 is not simpler than elsewhere."""
        decayed = [p for p in self._dense.values() if p.dim() > 1]
        free = [p for p in self._dense.values() if p.dim() <= 1]
        tables = list(self._tables.values()) if self._config.embedding_optimizer == "dense_adam" else []
        groups = ((decayed, self._config.weight_decay, False), (free, 0.0, False), (tables, 0.0, True))
        return [{"params": ps, "weight_decay": decay, "of_tables": of} for ps, decay, of in groups if ps]

    def _clip(self, rows: Mapping[str, _Rows]) -> None:
        """Scale everything so that the norm of the whole gradient is at most `clip_norm`."""
        if not self._config.clip_norm:
            return
        gradients = [p.grad for p in self._dense.values() if p.grad is not None]
        gradients += [gradient_TE for _, gradient_TE in rows.values()]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        factor = (self._config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)

    def _regularise(self, rows: Mapping[str, _Rows]) -> None:
        if not self._config.embedding_l2:
            return
        for name, (rows_T, gradient_TE) in rows.items():
            feature = name.rpartition(".")[2]
            if feature not in self._impressions:
                continue  # no feature's: the table of a gap has a few rows, each met all the time
            start = self._sharded[name].start if name in self._sharded else 0
            impressions_T = self._impressions[feature].to(rows_T.device)[rows_T + start]
            shrink_TE = l2_gradient(self._tables[name][rows_T], impressions_T, strength=self._config.embedding_l2)
            gradient_TE.add_(shrink_TE)

    def _update(self, rows: Mapping[str, _Rows]) -> None:
        factor = self._factor(self.steps)
        rate = self._config.learning_rate * factor
        table_rate = (self._config.embedding_learning_rate or self._config.learning_rate) * factor
        for name, (rows_T, gradient_TE) in rows.items():
            weight = self._tables[name]
            if name in self._by_row:
                weight.grad = None
                self._by_row[name].step(rows_T, gradient_TE, rate=table_rate)
            else:
                weight.grad = torch.zeros_like(weight).index_copy_(0, rows_T, gradient_TE)
        for group in self._adam.param_groups:
            group["lr"] = table_rate if group["of_tables"] else rate
        self._adam.step()
        self._limit(rows)

    def _limit(self, rows: Mapping[str, _Rows]) -> None:
        if not self._max_norm:
            return
        for name, (rows_T, _) in rows.items():
            if not name.startswith(_WIDE):
                weight = self._tables[name]
                weight.index_copy_(0, rows_T, weight.index_select(0, rows_T).renorm_(2, 0, self._max_norm))

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on besides the weights, by name; tensors are the live ones."""
        out = {"steps": torch.tensor(self.steps)}
        names = {id(p): name for name, p in (*self._dense.items(), *self._tables.items())}
        for parameter, values in self._adam.state.items():
            out |= {f"dense.{names[id(parameter)]}.{key}": value for key, value in values.items()}
        for name, optimizer in self._by_row.items():
            out |= {f"rows.{name}.{key}": value for key, value in optimizer.moments.items()}
            out[f"rows.{name}.steps"] = torch.tensor(optimizer.steps)
        return out

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.steps = int(state["steps"])
        parameters = {**self._dense, **self._tables}
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            parameter, _, key = rest.rpartition(".")
            if kind == "dense":
                weight = parameters[parameter]
                # In the weight's own strides: the fused AdamW goes through both as they lie in memory.
                own = torch.empty_like(weight) if value.shape == weight.shape else torch.empty_like(value)
                self._adam.state[weight][key] = own.copy_(value)
        for name, optimizer in self._by_row.items():
            moments = {key: state[f"rows.{name}.{key}"] for key in optimizer.moments}
            optimizer.restore(moments, steps=int(state[f"rows.{name}.steps"]))

    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the moments that another training ended with; the schedule begins anew.

        A table may have more rows than there were: those begin without any.
        """
        weights = {**self._dense, **self._tables}
        grown = {}
        for name, value in state.items():
            weight = weights.get(name.partition(".")[2].rpartition(".")[0])
            grown[name] = value if weight is None or not value.dim() else _with_rows(value, len(weight))
        self.restore(grown)
        self.steps = 0


@contextmanager
def sparse_gradients(net: nn.Module) -> Iterator[None]:
    """Inside, a table's gradient holds the looked-up rows only."""
    tables = list(trained_tables(net).values())
    before = [table.sparse for table in tables]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table, sparse in zip(tables, before, strict=True):
            table.sparse = sparse
            table.weight.grad = None


def trained_tables(net: nn.Module) -> dict[str, nn.Embedding]:
    """The tables that are trained, by name."""
    modules = net.named_modules()
    return {name: m for name, m in modules if isinstance(m, nn.Embedding) and m.weight.requires_grad}


def _with_rows(moment: Tensor, rows: int) -> Tensor:
    """The moment with zeros behind, one for each new row."""
    return torch.cat([moment, moment.new_zeros(max(rows - len(moment), 0), *moment.shape[1:])])


def _row_optimizer(weight: Tensor, config: TrainConfig) -> RowAdam | RowAdagrad:
    if config.embedding_optimizer == "adagrad":
        return RowAdagrad(weight)
    return RowAdam(weight, beta1=config.embedding_beta1)
