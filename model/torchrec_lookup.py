"""Rows of embedding tables that are cut over the ranks, looked up by TorchRec; nothing else knows it.

Its lookup alone is used. Its optimisers, fused into backward, know no Adam on a CPU, and update a table once per lookup
where a net looks up history, candidate and negatives. S rows of a table on this rank, T ids, E width.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.bundle.errors import ConfigError
from model.ranks import Ranks

_INSTALL = "0, or an install of ctr-scorer[torchrec] with TorchRec: docs/distributed.md"


class RowLookup:
    """Tables of one `padded_width`, each cut by rows into blocks as long as each other, the last one maybe shorter."""

    def __init__(self, tables: Mapping[str, nn.Embedding], *, ranks: Ranks, device: torch.device) -> None:
        """Every rank has rows of each table; what they hold is not set."""
        from torchrec import EmbeddingCollection, EmbeddingConfig  # noqa: PLC0415  # the extra `torchrec`
        from torchrec.distributed.embedding import EmbeddingCollectionSharder  # noqa: PLC0415  # as above
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise  # noqa: PLC0415  # as above
        from torchrec.distributed.types import ShardingEnv  # noqa: PLC0415  # as above

        self._device, self._widths = device, {name: table.embedding_dim for name, table in tables.items()}
        configs = [
            EmbeddingConfig(
                name=_key(name),
                feature_names=[_key(name)],
                embedding_dim=padded_width(table),
                num_embeddings=table.num_embeddings,
            )
            for name, table in tables.items()
        ]
        whole = EmbeddingCollection(tables=configs, device=torch.device("meta"))
        sharder = EmbeddingCollectionSharder()
        # Not the other kernel, "dense": on a CPU it writes out of bounds where the width is no multiple of 4.
        cut = {config.name: row_wise(compute_kernel="fused") for config in configs}
        plan = construct_module_sharding_plan(
            whole, cut, sharder=sharder, world_size=ranks.size, device_type=device.type
        )
        # TorchRec draws rows, which are overwritten: dropout's draws must not notice.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._module = sharder.shard(whole, plan, ShardingEnv.from_process_group(dist.group.WORLD), device)

    def part(self, name: str) -> tuple[Tensor, int]:
        """This rank's rows of a table, [S, E] in the memory that is looked up in, and which one is the first."""
        (shard,) = self._module.state_dict()[f"embeddings.{_key(name)}.weight"].local_shards()
        return shard.tensor.detach()[:, : self._widths[name]], shard.metadata.shard_offsets[0]

    def rows(self, ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows [T, E] of every table that have the ids [T]. Every rank asks at once; one may want none."""
        from torchrec import KeyedJaggedTensor  # noqa: PLC0415  # the extra `torchrec`

        keys, lengths = [_key(name) for name in ids], [len(ids_T) for ids_T in ids.values()]
        wanted = KeyedJaggedTensor.from_lengths_sync(
            keys=keys, values=torch.cat(list(ids.values())), lengths=torch.tensor(lengths, device=self._device)
        )
        with torch.no_grad():
            found = self._module(wanted)
            return {name: found[_key(name)].values()[:, : self._widths[name]] for name in ids}


def padded_width(table: nn.Embedding) -> int:
    """The width that a row of it has in memory: fbgemm wants multiples of 4."""
    return -(-table.embedding_dim // 4) * 4


def check_torchrec() -> None:
    """Raises ConfigError if TorchRec cannot be imported."""
    try:
        import torchrec  # noqa: F401, PLC0415  # the extra `torchrec`
    except (ImportError, OSError) as error:  # OSError: fbgemm was built against another torch
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(file="config", key="train.sharded_rows", found=why, allowed=_INSTALL) from error


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ModuleDict takes no dots
