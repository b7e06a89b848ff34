"""Embedding tables divided by rows among ranks: for tables that outgrow one device.

A rank holds its rows of a table and their moments. Once per batch the ranks exchange the rows that each will look up
(`torchrec_lookup`); the net looks up in those, so it stays as it reads. Gradients travel as without
(`Ranks.mean_rows`), and each rank updates the rows that it has. R rows of a table, S of them on this rank, T in a
batch, E width.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.bundle.errors import ConfigError
from model.bundle.schema import PADDING
from model.bundle.vocabulary import Ids
from model.checkpoint import Snapshot
from model.nets.embedding import FeatureEmbedding
from model.ranks import Ranks
from model.row_optimizer import touched_rows
from model.torchrec_lookup import RowLookup, check_torchrec, padded_width
from model.train_config import TrainConfig

_GROUPS = ("net", "best", "optimizer.rows")  # of a snapshot: what has a row for each of a table's


class ShardedTable(nn.Module):
    """In a net where an `nn.Embedding` was. `weight` [S, E] are this rank's rows of it, those from `start` on."""

    weight: Tensor

    def __init__(self, weight_SE: Tensor, *, start: int, rows: int) -> None:
        """`rows` are the whole table's."""
        super().__init__()
        # A buffer: best weights are kept and put back with the net's state, and DistributedDataParallel passes it by.
        self.register_buffer("weight", weight_SE)
        self.start, self.rows = start, rows
        self.exchange: TableShards | None = None
        self._ids_T, self._vectors_TE = torch.empty(0, dtype=torch.int64), torch.empty(0, weight_SE.shape[1])

    def take(self, ids_T: Tensor, vectors_TE: Tensor) -> None:
        """Begin a batch that looks up these ids, ascending and padding first, whose rows are `vectors_TE`."""
        self._ids_T, self._vectors_TE = ids_T, vectors_TE.detach().requires_grad_()

    def forward(self, ids: Tensor) -> Tensor:
        """As `nn.Embedding` with sparse gradients: [..., E]."""
        place = torch.searchsorted(self._ids_T, ids.contiguous())
        return nn.functional.embedding(place, self._vectors_TE, padding_idx=0, sparse=True)

    def touched(self) -> tuple[Tensor, Tensor] | None:
        """The rows of the whole table that the batch's loss reaches, and their gradients; None if the net used none."""
        if self._vectors_TE.grad is None:
            return None
        place_T, gradient_TE = touched_rows(self._vectors_TE.grad)
        return self._ids_T[place_T], gradient_TE

    def own(self, rows_T: Tensor, gradient_TE: Tensor) -> tuple[Tensor, Tensor]:
        """Those that are on this rank, numbered as in `weight`."""
        mine_T = (rows_T >= self.start) & (rows_T < self.start + len(self.weight))
        return rows_T[mine_T] - self.start, gradient_TE[mine_T]

    def part(self, whole_RE: Tensor) -> Tensor:
        """This rank's rows [S, E] of what has one for each of the table's."""
        return whole_RE[self.start : self.start + len(self.weight)]

    def whole(self, part_SE: Tensor, ranks: Ranks) -> Tensor:
        """The reverse on the first rank, on the CPU; the others give their part and get it back."""
        if not ranks.first:
            dist.send(part_SE.cpu().contiguous(), dst=0)
            return part_SE
        whole_RE = torch.empty(self.rows, part_SE.shape[1], dtype=part_SE.dtype)
        whole_RE[: len(part_SE)] = part_SE
        for rank in range(1, ranks.size):
            # TorchRec's blocks are as long as the first, but for the last one.
            dist.recv(whole_RE[len(part_SE) * rank : len(part_SE) * (rank + 1)], src=rank)
        return whole_RE


class TableShards:
    """What the ranks exchange for the tables of one net that are divided among them."""

    def __init__(
        self, net: nn.Module, tables: Mapping[str, nn.Embedding], *, ranks: Ranks, device: torch.device
    ) -> None:
        """Put a ShardedTable in the place of each of `tables`, with the first rank's rows."""
        self._net = net
        self._lookups: list[tuple[dict[str, ShardedTable], RowLookup]] = []  # one for all tables of a width
        for width in sorted({padded_width(table) for table in tables.values()}):
            alike = {name: table for name, table in tables.items() if padded_width(table) == width}
            lookup = RowLookup(alike, ranks=ranks, device=device)
            for name, table in alike.items():
                weight_SE, start = lookup.part(name)
                sharded = ShardedTable(weight_SE, start=start, rows=table.num_embeddings)
                sharded.exchange = self
                ranks.alike({name: table.weight})
                weight_SE.copy_(sharded.part(table.weight.detach()))
                net.set_submodule(name, sharded)
            self._lookups.append(({name: sharded_tables(net)[name] for name in alike}, lookup))

    def fetch(self, tensors: Mapping[str, Tensor], negatives: Tensor | None) -> None:
        """As `fetch_rows`."""
        for tables, lookup in self._lookups:
            ids = {name: wanted_ids(self._net, name, tensors, negatives) for name in tables}
            for name, vectors_TE in lookup.rows(ids).items():
                tables[name].take(ids[name], vectors_TE)


def wanted_ids(net: nn.Module, name: str, tensors: Mapping[str, Tensor], negatives: Tensor | None) -> Tensor:
    """The ids [T] that a net may look up in one of its tables for a batch, ascending and each once, with padding."""
    path, _, feature = name.rpartition(".")
    embedding = net.get_submodule(path.removesuffix(".tables"))
    assert isinstance(embedding, FeatureEmbedding)
    sides = [(side, columns[feature]) for side, columns in embedding.columns.items() if feature in columns]
    found = [tensors[f"{side}_sparse"][..., at] for side, at in sides if f"{side}_sparse" in tensors]
    histories = [ids for ids in (tensors.get("history"), negatives) if ids is not None]
    fields = zip(embedding.shared, embedding.history_columns, strict=True)
    found += [ids[..., at] for field, at in fields if field == feature for ids in histories]
    padding = torch.full((1,), PADDING, device=next(net.parameters()).device)
    ids_T: Tensor = torch.unique(torch.cat([padding, *(ids.reshape(-1) for ids in found)]))
    return ids_T


@contextmanager
def divided(
    net: nn.Module, tables: Mapping[str, nn.Embedding], *, config: TrainConfig, ranks: Ranks, device: torch.device
) -> Iterator[None]:
    """Inside, those of `tables` that have `train.sharded_rows` are divided among ranks; afterwards the first rank has
    them whole again. One process, or 0, leaves all as they are.

    Raises ConfigError for a setting that does not go with it, and if TorchRec is missing.
    """
    if not config.sharded_rows or ranks.size == 1:
        yield
        return
    _check(config)
    # With fewer rows than ranks squared a rank could be left without any.
    least = max(config.sharded_rows, ranks.size**2)
    TableShards(net, {n: t for n, t in tables.items() if t.num_embeddings >= least}, ranks=ranks, device=device)
    del tables  # the whole ones
    yield
    for name, table in sharded_tables(net).items():
        weight_RE = table.whole(table.weight, ranks)
        if ranks.first:
            whole = nn.Embedding.from_pretrained(weight_RE, freeze=False, padding_idx=PADDING)  # type: ignore[no-untyped-call]  # torch's
            net.set_submodule(name, whole)


def fetch_rows(net: nn.Module, tensors: Mapping[str, Tensor], negatives: Tensor | None = None) -> None:
    """Get the rows that the net may look up for this rank's batch, where its tables are divided. Every rank calls it at
    once; one that has no batch gives no tensors.
    """
    exchange = next((table.exchange for table in sharded_tables(net).values()), None)
    if exchange is not None:
        exchange.fetch(tensors, negatives)


def fetched(
    net: nn.Module, batches: Iterator[tuple[Ids, dict[str, Tensor]]], ranks: Ranks
) -> Iterator[tuple[Ids, dict[str, Tensor]]]:
    """A rank's batches, each after its `fetch_rows`; a rank that has no more goes on giving rows until all are done."""
    if not sharded_tables(net):
        yield from batches
        return
    while True:
        batch = next(batches, None)
        if not ranks.total(torch.tensor(batch is not None, dtype=torch.int64)):
            return
        fetch_rows(net, {} if batch is None else batch[1])
        if batch is not None:
            yield batch


def sharded_tables(net: nn.Module) -> dict[str, ShardedTable]:
    """The divided tables, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, ShardedTable)}


def whole_snapshot(net: nn.Module, snapshot: Snapshot, ranks: Ranks) -> Snapshot:
    """The snapshot as of a net with whole tables, on the first rank. Every rank calls it at once."""
    return _changed(net, snapshot, lambda table, part_SE: table.whole(part_SE, ranks))


def own_snapshot(net: nn.Module, snapshot: Snapshot) -> Snapshot:
    """What such a snapshot is for this rank: of divided tables its own rows."""
    return _changed(net, snapshot, lambda table, whole_RE: table.part(whole_RE).clone())


def _changed(net: nn.Module, snapshot: Snapshot, change: Callable[[ShardedTable, Tensor], Tensor]) -> Snapshot:
    """With everything changed that has a row for each of a divided table's."""
    tables = {f"{group}.{name}": table for name, table in sharded_tables(net).items() for group in _GROUPS}
    tensors = dict(snapshot.tensors)
    for key, tensor in snapshot.tensors.items():
        table = tables.get(key.rpartition(".")[0])
        if table is not None and tensor.dim():  # the steps of its optimiser are no rows
            tensors[key] = change(table, tensor)
    return replace(snapshot, tensors=tensors)


def _check(config: TrainConfig) -> None:
    asked: list[tuple[str, object, bool, str]] = [
        ("embedding_optimizer", "dense_adam", config.embedding_optimizer == "dense_adam", "adam or adagrad"),
        ("compile", True, config.compile, "false"),
        ("keep_moments", True, config.keep_moments, "false"),
    ]
    for key, found, refused, instead in asked:
        if refused:
            allowed = f"{instead} with train.sharded_rows"
            raise ConfigError(file="config", key=f"train.{key}", found=found, allowed=allowed)
    check_torchrec()
