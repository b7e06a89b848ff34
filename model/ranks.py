"""The processes that train one net together, "ranks". Each takes its part of every batch, all make the same update.

R ranks, T touched rows of a table, E width.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from model.bundle.errors import ConfigError
from model.row_optimizer import touched_rows

_TIMEOUT = timedelta(minutes=10)  # for a rank that neither answers nor dies; a dead one is noticed at once
_Rows = tuple[Tensor, Tensor]  # the touched rows [T] of a table and their gradients [T, E]


class RankLostError(RuntimeError):
    """Another rank died or stopped answering; what the last checkpoint holds is kept."""


@dataclass(frozen=True)
class Ranks:
    """This process among the `size` that train. The default is one that trains alone, for which nothing is sent."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to the terminal."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """Which of the rows of a batch are this rank's; a batch with fewer rows than ranks is everybody's."""
        if rows < self.size:
            return slice(0, rows)
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, the same on each; `tensor` itself becomes it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def every(self, tensor: Tensor) -> Tensor:
        """Each rank's tensor, which has the same shape on all: [R, ...]."""
        if self.size == 1:
            return tensor[None]
        out = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(out, tensor.contiguous())
        return torch.stack(out)

    def told(self, figures: dict[str, float] | None) -> dict[str, float]:
        """What the first rank says, so that no two ranks ever decide differently; what others say does not matter."""
        said = [figures]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0] or {}

    def alike(self, tensors: Mapping[str, Tensor]) -> None:
        """Make the tensors those of the first rank, in place."""
        if self.size > 1:
            for tensor in tensors.values():
                dist.broadcast(tensor.detach(), src=0)

    def mean_rows(self, tables: Mapping[str, _Rows]) -> dict[str, _Rows]:
        """Every table's rows that any rank touched, with the mean of the ranks' gradients; each row named once.

        Only touched rows travel. The order in which they are added is that of the ranks, so all get the same bits.
        """
        if self.size == 1:
            return dict(tables)
        counts_RN = self.every(_counts(tables)).tolist()
        ids = self._packed([rows_T for rows_T, _ in tables.values()], counts_RN, widths=[1] * len(tables))
        widths = [gradient_TE.shape[1] for _, gradient_TE in tables.values()]
        gradients = self._packed([gradient_TE for _, gradient_TE in tables.values()], counts_RN, widths=widths)
        out = {}
        for name, rows, values in zip(tables, ids, gradients, strict=True):
            all_TE = torch.cat(values) / self.size
            size = (int(torch.cat(rows).max()) + 1 if len(all_TE) else 1, all_TE.shape[1])
            looked_up = torch.sparse_coo_tensor(torch.cat(rows).view(1, -1), all_TE, size, check_invariants=False)
            out[name] = touched_rows(looked_up)
        return out

    def _packed(self, mine: list[Tensor], counts_RN: list[list[int]], *, widths: list[int]) -> list[list[Tensor]]:
        """Tables' tensors of all ranks, [table][rank], by one exchange."""
        sizes_RN = [[count * width for count, width in zip(counts, widths, strict=True)] for counts in counts_RN]
        flat = torch.cat([tensor.reshape(-1) for tensor in mine])
        most = max(sum(sizes) for sizes in sizes_RN)
        all_RM = self.every(torch.nn.functional.pad(flat, (0, most - len(flat))))
        by_rank = [all_M[: sum(sizes)].split(sizes) for all_M, sizes in zip(all_RM, sizes_RN, strict=True)]
        return [
            [part.view(-1, width) if tensor.dim() > 1 else part for part in parts]
            for tensor, width, *parts in zip(mine, widths, *by_rank, strict=True)
        ]


ALONE = Ranks()


def current_ranks() -> Ranks:
    """This process among those of torch.distributed's process group; alone where there is none."""
    if not dist.is_available() or not dist.is_initialized():
        return ALONE
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Inside, the ranks that torchrun started are one process group; a process that it did not start is alone.

    Tensors on a GPU travel by NCCL, all others by gloo. Raises RankLostError if another rank is gone, ConfigError if
    `device` names one GPU for all.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield ALONE
        return
    if ":" in device:
        raise ConfigError(file="config", key="train.device", found=device, allowed="cpu or cuda under torchrun")
    if device == "cuda":
        torch.cuda.set_device(dist.get_node_local_rank())
    with lost_ranks_told(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of a matrix with one row: the same memory
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
        yield current_ranks()
        dist.destroy_process_group()  # after an error the process ends anyway, and this would wait for the others


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """Inside, what a backend raises about a lost connection becomes a RankLostError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            why = str(error).strip().partition("\n")[0]
            raise RankLostError(f"another process of this run is gone; go on with --resume ({why})") from error
        raise


def _counts(tables: Mapping[str, _Rows]) -> Tensor:
    """[N] touched rows of each of N tables, where the tables are."""
    device = next(iter(tables.values()))[0].device
    return torch.tensor([len(rows_T) for rows_T, _ in tables.values()], device=device)
