"""What one of the ranks does for `test_sharded_tables`: it trains nets whose tables are divided."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoint import CHECKPOINT, Checkpoints
from model.config import read_config
from model.ranks import Ranks, joined
from model.table_shards import divided, sharded_tables
from model.train_command import train_configured
from model.train_config import TrainConfig
from tests.integration.rank_worker import RUNS, Material

DIVIDED = "divided.toml"


def resumed(material: Material, folder: Path, ranks: Ranks) -> None:
    """A run that Ctrl-C ended after its checkpoint, and what came of going on with it."""
    first = Checkpoints(folder, identity={}, resume=False)
    try:
        material.trained("dien", first, stop=7)
    except KeyboardInterrupt:
        torch.distributed.barrier()  # the first rank has written
    second = Checkpoints(folder, identity={}, resume=True)
    if ranks.first:
        (folder / "kept").mkdir()
        shutil.copy(folder / CHECKPOINT, folder / "kept")
    again = material.trained("dien", second)
    if ranks.first:
        save_file(again["weights"], folder / "resumed.safetensors")


def rows_of_each(ranks: Ranks) -> list[list[int]]:
    """Of tables of some lengths and widths: the rows, and those that this rank had."""
    net = nn.Module()
    for rows, width in ((4, 1), (11, 3), (12, 18)):
        net.add_module(f"of_{rows}", nn.Embedding(rows, width))
    tables = {name: table for name, table in net.named_modules() if isinstance(table, nn.Embedding)}
    with divided(net, tables, config=TrainConfig(sharded_rows=1), ranks=ranks, device=torch.device("cpu")):
        return [[table.rows, len(table.weight)] for table in sharded_tables(net).values()]


def main(folder: Path) -> None:
    """Train every one of `rank_worker`'s runs, one that is interrupted, and one by the command."""
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        material = Material(ranks)
        sharded, told = material.in_shards(folder / "shards"), {}
        for each in (material, sharded):
            each.config = replace(each.config, sharded_rows=1, checkpoint_batches=5)
        for name, (place, net) in RUNS.items():
            run = (sharded if place == "shards" else material).trained(net)
            told[name] = {"loss": run["loss"], "auc": run["auc"]}
            if ranks.first:
                save_file(run["weights"], folder / f"{name}.safetensors")
        resumed(material, folder, ranks)
        told["rows"] = rows_of_each(ranks)
        (folder / f"told-{ranks.rank}.json").write_text(json.dumps(told))
        train_configured(read_config(folder / DIVIDED), out=folder / "divided", resume=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
