"""The optimiser's moments of a run, and training that goes on with them."""

from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import Tensor, nn
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.cli import app
from model.config import read_config
from model.incremental import read_parent
from model.moments import MOMENTS, with_moments
from model.optimizer import NetOptimizer, sparse_gradients
from model.run_folder import load_run
from model.train_config import TrainConfig

CONFIG = """
name = "shop"
net = { kind = "base", head = [8] }
train = { epochs = 1, batch_size = 256, learning_rate = 0.01, keep_moments = true }
[data]
format = "synthetic"
synthetic = { users = 100, items = 50, categories = 5, impressions_per_user = 30, days = 4, launched = 0.3 }
valid_fraction = VALID
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""


class Little(nn.Module):
    """A table and a weight."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 3, sparse=True)
        self.head = nn.Linear(3, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids)).square().sum()


def stepped(optimizer: NetOptimizer, net: Little, steps: int) -> NetOptimizer:
    with sparse_gradients(net):
        for at in range(steps):
            optimizer.step(net(torch.tensor([at % 4, 1])))
    return optimizer


@pytest.mark.parametrize("kind", ["adam", "adagrad", "dense_adam"])
def test_the_optimizer_goes_on_and_new_rows_begin_without_moments(kind: str) -> None:
    """It makes the step that the one before would have made next, whatever the new rows; the schedule begins anew."""
    config = TrainConfig(embedding_optimizer=kind)  # type: ignore[arg-type]  # one of the three
    torch.manual_seed(0)
    before, after = Little(4), Little(6)
    first = stepped(NetOptimizer(before, config, steps_per_epoch=5), before, 9)
    with torch.no_grad():
        after.head.load_state_dict(before.head.state_dict())
        after.table.weight[:4] = before.table.weight
    second = NetOptimizer(after, config, steps_per_epoch=5)

    second.take_over(first.state())

    assert second.steps == 0
    moments = {n: m for n, m in second.state().items() if n.startswith(("rows.table", "dense.table")) and m.dim()}
    assert moments
    for name, moment in moments.items():
        assert torch.equal(first.state()[name], moment[:4])
        assert not moment[4:].any()
    stepped(first, before, 1)
    stepped(second, after, 1)
    assert torch.equal(before.table.weight, after.table.weight[:4])
    assert torch.equal(before.head.weight, after.head.weight)


def call(*args: object) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result


def test_a_run_goes_on_with_its_moments(tmp_path: Path) -> None:
    """From the run, or from what has its weights beside the file; not with those of other weights, nor if not asked."""
    (tmp_path / "day1.toml").write_text(CONFIG.replace("VALID", "0.4"))
    (tmp_path / "day2.toml").write_text(CONFIG.replace("VALID", "0.1"))
    (tmp_path / "anew.toml").write_text(CONFIG.replace("VALID", "0.1").replace(", keep_moments = true", ""))
    call("train", tmp_path / "day1.toml", "--out", tmp_path / "run1")
    on = call("train", tmp_path / "day2.toml", "--from", tmp_path / "run1", "--out", tmp_path / "run2")
    anew = call("train", tmp_path / "anew.toml", "--from", tmp_path / "run1", "--out", tmp_path / "run3")

    assert "and so does the optimiser" in on.stdout
    assert "and so does the optimiser" not in anew.stdout
    assert not (tmp_path / "run3" / MOMENTS).exists()
    heads = [load_run(tmp_path / run).net.state_dict()["head.bias"] for run in ("run2", "run3")]
    assert not torch.equal(*heads)

    config, parent = read_config(tmp_path / "day2.toml").train, read_parent(tmp_path / "run1")
    assert with_moments(parent, tmp_path / "run1", config).moments is not None
    assert with_moments(parent, tmp_path / "run2", config).moments is None
    assert with_moments(read_parent(tmp_path / "run2"), tmp_path / "run1", config).moments is None
    other = TrainConfig(keep_moments=True, embedding_optimizer="adagrad")
    assert with_moments(parent, tmp_path / "run1", other).moments is None
    (tmp_path / "run1" / MOMENTS).write_bytes(b"no such file")
    with pytest.raises(ConfigError, match=r"moments\.safetensors"):
        with_moments(parent, tmp_path / "run1", config)
