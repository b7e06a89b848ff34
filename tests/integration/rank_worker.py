"""What one of several processes does for `test_distributed`; run as a module, it is one of two that train."""

import copy
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import CHECKPOINT, Checkpoints
from model.data.batches import encode_split
from model.data.clicked_pairs import clicked_pairs
from model.data.data_config import DataConfig
from model.data.fresh_negatives import FreshNegatives
from model.data.lanes import lanes_of
from model.data.log import read_log
from model.data.negatives import NegativeSampler
from model.data.sharded_split import ShardedSplit
from model.data.shards import ShardWriter, read_shards
from model.data.synthetic import SyntheticConfig, synthetic_schema
from model.data.vocab import fit_encoder
from model.evaluate import predict_logit
from model.nets import Net, build_net
from model.ranks import ALONE, RankLostError, Ranks, joined
from model.regularisation import impressions_by_table
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step

SMALL = {"attention": [8], "head": [16]}
NETS: dict[str, dict[str, Any]] = {  # Any: settings
    "dien": {**SMALL, "kind": "dien", "dropout": 0.2, "auxiliary_alpha": 0.5},
    # Its discriminator is not used, and no native kernel computes it.
    "agru": {**SMALL, "kind": "agru", "auxiliary": "mlp", "dropout": 0.3, "factors": 4, "max_norm": 0.2},
}
# In shards the ranks read their own rows.
RUNS = {"dien": ("memory", "dien"), "agru": ("memory", "agru"), "sharded": ("shards", "dien")}
BATCH = 50  # of rows that are scored
# 769 = 12 * 64 + 1: the last batch has one row, fewer than there are ranks.
CONFIG = TrainConfig(epochs=1, batch_size=64, evaluations_per_epoch=3, patience=9, embedding_l2=1e-4, lookup_l2=1e-4)
ROWS = 769
# Of rows in shards no batch is that small; nine shards in windows of two.
IN_SHARDS = replace(CONFIG, length_buckets=True, checkpoint_batches=5)
LANES, SHARDS, WINDOW_ROWS = 2, 9, 90


class Material:
    """A log of 60 users, encoded, and nets with the same initial weights every time."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        sizes = SyntheticConfig(users=60, items=80, categories=8, impressions_per_user=30, seed=3)
        log = read_log(DataConfig(format="synthetic", synthetic=sizes), synthetic_schema(), base=Path())
        encoder = fit_encoder(log, synthetic_schema())
        self.config, self._encoder, self._sizes = CONFIG, encoder, vocabulary_sizes(encoder)
        split = encode_split(log.train[:ROWS], encoder)
        self.samples = Samples(
            train=split,
            valid=encode_split(log.valid, encoder),
            sampler=NegativeSampler(encoder),
            impressions=impressions_by_table(split, synthetic_schema(), self._sizes, ranks=ranks),
            ranks=ranks,
        )

    def net(self, name: str) -> Net:
        """One of NETS; torch's generator then stands where training begins."""
        torch.manual_seed(0)
        return build_net(NETS[name], synthetic_schema(), self._sizes, file="test")

    def write_shards(self, folder: Path) -> None:
        """The splits as `prepare --shards` writes them."""
        for name, split in (("train", self.samples.train), ("valid", self.samples.valid)):
            writer = ShardWriter(folder / name, shards=SHARDS, rng=np.random.default_rng(1))
            writer.append(split, np.arange(len(split)))
            writer.close()

    def in_shards(self, folder: Path) -> "Material":
        """The same rows from there, with fresh negatives; a rank reads its lane."""
        ranks = self.samples.ranks
        lanes = lanes_of(LANES, rank=ranks.rank, ranks=ranks.size)
        out = copy.copy(self)
        out.config = IN_SHARDS
        train, valid = (
            ShardedSplit(read_shards(folder / n), window_rows=WINDOW_ROWS, lanes=lanes) for n in ("train", "valid")
        )
        counts = impressions_by_table(train, synthetic_schema(), self._sizes, ranks=ranks)
        fresh = FreshNegatives(self._encoder, train, clicked=clicked_pairs(self.samples.train, self._encoder))
        out.samples = replace(self.samples, train=train, valid=valid, impressions=counts, fresh=fresh)
        return out

    def trained(self, name: str, checkpoints: Checkpoints | None = None, *, stop: int = 0) -> dict[str, Any]:
        """Losses, AUCs, weights and scores of a run; after `stop` batches it is interrupted."""
        net, losses = self.net(name), []

        def report(step: Step) -> None:
            losses.append(step.loss)
            if len(losses) == stop:
                raise KeyboardInterrupt

        result = train(net, self.samples, config=self.config, report=report, checkpoints=checkpoints)
        figures = {"loss": losses, "auc": [evaluation["auc"] for evaluation in result.evaluations]}
        return {**figures, "weights": {n: t.contiguous().clone() for n, t in net.state_dict().items()}, "net": net}


def resumed(material: Material, folder: Path) -> dict[str, Tensor]:
    """The weights of a run that was interrupted after its checkpoint and gone on with; a copy of that is kept."""
    first = Checkpoints(folder, identity={}, resume=False)
    material.trained("dien", first, stop=7)
    if material.samples.ranks.first:
        shutil.copy(folder / CHECKPOINT, folder / "kept")
    torch.distributed.barrier()  # the first rank has written
    second = Checkpoints(folder, identity={}, resume=True)
    assert second.start is not None
    weights: dict[str, Tensor] = material.trained("dien", second)["weights"]
    return weights


def main(folder: Path) -> None:
    """Train every net, then one that is interrupted, and in the end lose the other rank."""
    torch.set_num_threads(1)
    try:
        with joined("cpu") as ranks:
            material = Material(ranks)
            sharded = material.in_shards(folder / "shards")
            told: dict[str, Any] = {}
            for name, (place, net) in RUNS.items():
                chosen = sharded if place == "shards" else material
                run = chosen.trained(net)
                told[name] = {"loss": run["loss"], "auc": run["auc"]}
                save_file(run["weights"], folder / f"{name}-{ranks.rank}.safetensors")
                logits = predict_logit(run["net"], chosen.samples.train, batch_size=BATCH, ranks=ranks)
                np.save(folder / f"{name}-{ranks.rank}.npy", logits)
            for place, chosen in (("memory", material), ("shards", sharded)):
                save_file(resumed(chosen, folder / place), folder / f"resumed-{place}-{ranks.rank}.safetensors")
            (folder / f"told-{ranks.rank}.json").write_text(json.dumps(told))
            if not ranks.first:
                sys.exit(3)
            material.trained("dien")
    except RankLostError as error:
        sys.exit(f"lost: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
