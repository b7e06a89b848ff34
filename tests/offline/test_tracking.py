"""What TensorBoard and MLflow are told of a training; and that neither costs or breaks one."""

import importlib.util
import json
import struct
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tensorboardX.proto.event_pb2 import Event
from typer.testing import CliRunner

from model.cli import app
from model.config import read_config
from model.run_folder import load_run
from model.track_config import TrackConfig
from model.tracking import EVENTS, TRACKING, Tracking, tell_bundle
from model.training import Step

HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
CONFIG = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 60, items = 50, categories = 5, impressions_per_user = 40 } }
net = { kind = "base", head = [8] }
train = { epochs = 2, batch_size = 128, learning_rate = 0.01, schedule = "exponential" }
[schema]
max_history = 10
item = [{ name = "item_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }]
"""


class Notes:
    """A sink that notes what it is told, and fails from some call on."""

    def __init__(self, *, fails_after: int = 10**9) -> None:
        self.told: list[tuple[str, Any]] = []
        self._left = fails_after

    def _note(self, what: str, value: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("the store is gone\nand more")
        self.told.append((what, value))

    def settings(self, settings: Mapping[str, Any]) -> None:
        self._note("settings", settings)

    def figures(self, figures: Mapping[str, float], *, samples: int) -> None:
        self._note("figures", (samples, dict(figures)))

    def tags(self, tags: Mapping[str, str]) -> None:
        self._note("tags", tags)

    def file(self, path: Path) -> None:
        self._note("file", path.name)

    def close(self, *, status: str) -> None:
        self._note("close", status)


def step(done: int, loss: float, **more: Any) -> Step:
    return Step(epoch=2, done=done, total=100, loss=loss, auc=0.5, learning_rate=0.1, **more)


def test_an_evaluation_is_told_with_what_came_before_it():
    """Mean loss and speed since the last one, over samples of all epochs; what is no number is left out."""
    sink, seen, times = Notes(), [], iter([10.0, 12.0])
    track = Tracking([sink], seen.append, clock=lambda: next(times))
    for one in (step(40, 1.0), step(80, 3.0), step(100, 5.0, evaluation={"auc": 0.7, "gauc": float("nan")})):
        track(one)

    assert [one.done for one in seen] == [40, 80, 100]
    assert sink.told == [
        (
            "figures",
            (200, {"train/loss": 3.0, "train/learning_rate": 0.1, "train/samples_per_s": 100.0, "valid/auc": 0.7}),
        )
    ]


def test_a_sink_that_fails_is_told_no_more_and_the_others_are(capsys: pytest.CaptureFixture[str]):
    """Training hears nothing of it, and the user reads why."""
    broken, sound = Notes(fails_after=1), Notes()
    track = Tracking([broken, sound], lambda one: None)
    for done in (10, 20, 30):
        track(step(done, 1.0, evaluation={"auc": 0.7}))
    track.close()

    assert (len(broken.told), len(sound.told)) == (1, 4)
    assert sound.told[-1] == ("close", "FINISHED")
    assert capsys.readouterr().err.splitlines() == ["no longer tracked: the store is gone"]


def call(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def trained(folder: Path, track: str, *more: object) -> Result:
    (folder / "tiny.toml").write_text(f"{track}\n{CONFIG}")
    return call("train", folder / "tiny.toml", "--out", folder / "run", *more)


def events(folder: Path) -> list[Event]:
    """The records of the event files: length, a checksum, the event, a checksum."""
    found = []
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        while raw:
            (length,) = struct.unpack("<Q", raw[:8])
            found.append(Event.FromString(raw[12 : 12 + length]))
            raw = raw[16 + length :]
    return found


def test_tensorboard_shows_the_training(tmp_path: Path):
    """A point per evaluation over samples, the calibrated figures at the end, settings and later the bundle as text."""
    assert trained(tmp_path, "track = { tensorboard = true }").exit_code == 0
    bundle = tmp_path / "v1"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    tell_bundle(tmp_path / "run", bundle)
    found = [(event.step, value) for event in events(tmp_path / "run" / EVENTS) for value in event.summary.value]
    points = {tag: [(s, v.simple_value) for s, v in found if v.tag == tag] for tag in {v.tag for _, v in found}}
    metrics = load_run(tmp_path / "run").metrics
    rows = metrics["window"]["rows"]
    texts = {v.tag: v.tensor.string_val[0].decode() for _, v in found if v.tensor.string_val}

    expected = [(rows * epoch, e["auc"]) for epoch, e in enumerate(metrics["evaluations"], start=1)]
    assert points["valid/auc"] == [(s, pytest.approx(auc)) for s, auc in expected]
    assert [rate for _, rate in points["train/learning_rate"]] == pytest.approx([0.01, 0.005])
    assert len(points["train/loss"]) == len(points["train/samples_per_s"]) == 2
    assert points["final/valid/log_loss"][0][1] == pytest.approx(metrics["splits"]["valid"]["log_loss"])
    assert "| train.batch_size | 128 |" in texts["settings/text_summary"]
    assert texts["net/text_summary"] == "base"
    assert texts["bundle.version/text_summary"] == "v1"
    assert len(texts["bundle.digest/text_summary"]) == 64


def test_by_default_nothing_is_written(tmp_path: Path):
    """And a tracked training has the weights of one that is not."""
    for name, track in (("plain", ""), ("tracked", "track = { tensorboard = true }")):
        (tmp_path / name).mkdir()
        assert trained(tmp_path / name, track).exit_code == 0
    plain, tracked = tmp_path / "plain" / "run", tmp_path / "tracked" / "run"

    assert {p.name for p in tracked.iterdir()} - {p.name for p in plain.iterdir()} == {EVENTS, TRACKING}
    assert (plain / "weights.safetensors").read_bytes() == (tracked / "weights.safetensors").read_bytes()
    tell_bundle(plain, tmp_path / "no bundle")


@pytest.mark.skipif(HAS_MLFLOW, reason="mlflow is installed")
def test_without_mlflow_its_extra_is_named(tmp_path: Path):
    """Before anything is trained."""
    done = trained(tmp_path, 'track = { mlflow = "sqlite:///x.db" }')
    assert done.exit_code == 2
    assert "track.mlflow: found 'no mlflow', allowed: an install of ctr-scorer[mlflow]" in done.stderr
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.skipif(not HAS_MLFLOW, reason="the extra mlflow is not installed")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_the_training(tmp_path: Path):
    """One finished run of the experiment with settings, points, the report and the bundle; an address may be wrong."""
    import mlflow  # noqa: PLC0415  # not in the development install

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with chdir(tmp_path):  # artifacts of a SQLite store lie in the folder `mlruns` of the working directory
        done = trained(tmp_path, f'track = {{ mlflow = "{uri}", experiment = "shop" }}')
    assert done.exit_code == 0, done.output
    bundle = tmp_path / "v1"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    tell_bundle(tmp_path / "run", bundle)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    metrics = load_run(tmp_path / "run").metrics
    points = client.get_metric_history(run.info.run_id, "valid/auc")

    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == "128"
    assert [point.value for point in points] == pytest.approx([e["auc"] for e in metrics["evaluations"]])
    assert [point.step for point in points] == [metrics["window"]["rows"], 2 * metrics["window"]["rows"]]
    assert run.data.tags["net"] == "base"
    assert run.data.tags["bundle.version"] == "v1"
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert json.loads((tmp_path / "run" / TRACKING).read_text())["mlflow_run"] == run.info.run_id
    assert "track.mlflow: found" in trained(tmp_path, 'track = { mlflow = "nonsense://x" }').stderr


def test_the_table_is_checked(tmp_path: Path):
    """Like every other of the file; it is not part of the run's configuration."""
    assert (
        "track.tensorboard: found 'yes', allowed: true or false"
        in trained(tmp_path, 'track = { tensorboard = "yes" }').stderr
    )
    (tmp_path / "tiny.toml").write_text(f'{CONFIG}[track]\nmlflow = "http://h:1"')
    assert read_config(tmp_path / "tiny.toml").track == TrackConfig(mlflow="http://h:1")
