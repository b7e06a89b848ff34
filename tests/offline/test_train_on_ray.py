"""What runs on a Ray cluster, as far as it runs without one; the whole of it where Ray is installed."""

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from model.cli import app
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import in_pieces
from model.data.sharded_log import ShardedLog, read_sharded_log
from model.data.shards import read_shards
from model.data.synthetic import SyntheticConfig, synthesize, synthetic_schema
from model.ray_prepare import encode_divided

ROOT = Path(__file__).parents[2]
SIZES = SyntheticConfig(users=40, items=60, categories=8, impressions_per_user=20, seed=3)
PLAN = Plan(valid_fraction=0.1, test_fraction=0.1, memory_mb=1)
CONFIG = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 60, items = 50, categories = 5, impressions_per_user = 30 } }
net = { kind = "base", head = [8] }
train = { epochs = 1, batch_size = 200 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "items" }]
"""


def prepared(plan: Plan, out: Path) -> ShardedLog:
    stream = in_pieces(synthesize(SIZES, synthetic_schema()), positive_rating=1.0, rows=173)
    prepare_shards(stream, synthetic_schema(), plan=plan, out=out)
    return read_sharded_log(out, synthetic_schema(), memory_mb=1)


def rows_of(log: ShardedLog, name: str) -> list[tuple[bytes, int]]:
    """Every encoded row as bytes, with the activity of its user, in an order of its own."""
    split = log.split(name)
    taken = (part.take(np.array([i])) for part in split.parts() for i in range(len(part)))
    rows = [b"".join(np.ascontiguousarray(row[key]).tobytes() for key in sorted(row)) for row in taken]
    return sorted(zip(rows, log.activity(name).tolist(), strict=True))


@pytest.mark.parametrize("tasks", [1, 3])
def test_work_divided_among_tasks_gives_the_same_rows(tmp_path: Path, tasks: int) -> None:
    """What a cluster's tasks encode side by side, one of them twice because it was lost, are the rows of one process:
    each once, with the activity of its user.
    """

    def run(task: Callable[[int], int], numbers: int) -> None:
        assert numbers == tasks
        for number in [0, *range(numbers)]:
            task(number)

    encode = functools.partial(encode_divided, tasks=tasks, run=run)
    divided = prepared(dataclasses.replace(PLAN, encode=encode), tmp_path / "divided")
    whole = prepared(PLAN, tmp_path / "whole")

    for name in ("train", "valid", "test"):
        assert rows_of(divided, name) == rows_of(whole, name)
    assert divided.splits == whole.splits
    assert not list((tmp_path / "divided").glob(".*"))


def test_a_shard_stays_small_however_many_pieces_a_task_has(tmp_path: Path) -> None:
    """A reader holds a shard at least, so the rows of all pieces count, not those of the first."""
    encode = functools.partial(encode_divided, tasks=1, run=lambda task, numbers: [task(i) for i in range(numbers)])
    schema = dataclasses.replace(synthetic_schema(), max_history=2)
    log = synthesize(SyntheticConfig(users=1000, items=60, categories=8, impressions_per_user=50), schema)
    plan = Plan(valid_fraction=0.1, test_fraction=0.1, memory_mb=4, encode=encode)
    prepare_shards(in_pieces(log, positive_rating=1.0), schema, plan=plan, out=tmp_path)

    rows = read_shards(tmp_path / "train").rows
    assert rows.sum() > 2**15 > rows.max()


def test_the_example_job_runs_the_command() -> None:
    """KubeRay's RayJob starts it with flags that it has, and as many workers as it has pods."""
    job = yaml.safe_load((ROOT / "k8s" / "examples" / "rayjob.yml").read_text())["spec"]
    program, command, *arguments = shlex.split(job["entrypoint"])
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    told = CliRunner().invoke(app, [command, "--help"]).output

    assert program == "ctr-model"
    assert (ROOT / arguments[0].lstrip("/")).is_file()
    assert all(flag in told for flag in arguments if flag.startswith("--"))
    assert arguments[arguments.index("--workers") + 1] == str(group["replicas"])
    assert job["rayClusterSpec"]["headGroupSpec"]["template"] == group["template"]


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_command_says_what_to_install(tmp_path: Path) -> None:
    """One line and exit code 2."""
    config = tmp_path / "run.toml"
    config.write_text(CONFIG)

    result = CliRunner().invoke(app, ["train-on-ray", str(config), "--out", str(tmp_path / "run")])

    assert result.exit_code == 2
    assert "ctr-scorer[ray,train]" in result.output


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
@pytest.mark.filterwarnings("ignore")  # Ray's own, of its own settings
def test_a_local_cluster_prepares_and_trains(tmp_path: Path) -> None:
    """Two workers on this machine: a run with every row of the log in its report."""
    import ray  # noqa: PLC0415  # the extra `ray`

    config, out = tmp_path / "run.toml", tmp_path / "run"
    config.write_text(CONFIG)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        result = CliRunner().invoke(app, ["train-on-ray", str(config), "--out", str(out)])
    finally:
        ray.shutdown()

    assert result.exit_code == 0, result.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["window"]["rows"] + 2 * metrics["splits"]["valid"]["rows"] == pytest.approx(60 * 30, abs=10)
    assert 0 < metrics["splits"]["valid"]["auc"] < 1
