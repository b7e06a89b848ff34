"""A run that goes on from its checkpoint ends like one that was never interrupted."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.bundle.errors import ConfigError
from model.checkpoint import CHECKPOINT, Checkpoints, Snapshot, run_identity
from model.data.batches import encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.regularisation import impressions_by_table
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step, Training

# Everything that draws random numbers or remembers: dropout, negatives, order, moments, schedule, best weights.
NET = {"kind": "dien", "attention": [8], "head": [16], "dropout": 0.3, "auxiliary_alpha": 0.5}
SETTINGS = {
    "epochs": 2,
    "batch_size": 240,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "evaluations_per_epoch": 2,
    "patience": 9,
    "embedding_l2": 0.01,
}
BATCHES = 2 * 6
Trainer = Callable[..., "Ended"]


@dataclass(frozen=True, repr=False)  # hypothesis prints arguments
class Ended:
    """The weights at the end, and what the run came to."""

    weights: dict[str, Tensor]
    result: Training


class Killed(Exception):
    """Stands for the end of the process: nothing after it is done."""


@pytest.fixture(scope="module")
def run(small_log: Log) -> Trainer:
    """Trains a new net to the end, or until so many batches are done, and gives its weights and what it came to."""
    encoder = fit_encoder(small_log, synthetic_schema())
    sizes = vocabulary_sizes(encoder)
    valid, learned = (encode_split(getattr(small_log, name), encoder) for name in ("valid", "train"))
    samples = Samples(
        train=learned,
        valid=valid,
        sampler=NegativeSampler(encoder),
        impressions=impressions_by_table(learned, synthetic_schema(), sizes),
    )

    def go(folder: Path, *, kill_after: int = 0, resume: bool = False, **changed: object) -> Ended:
        steps = 0

        def report(_: Step) -> None:
            nonlocal steps
            steps += 1
            if steps == kill_after:
                raise Killed

        config = TrainConfig(**{**SETTINGS, **changed})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            net = build_net(NET, synthetic_schema(), sizes, file="test")
            checkpoints = Checkpoints(folder, identity={"batch_size": config.batch_size}, resume=resume)
            result = train(net, samples, config=config, report=report, checkpoints=checkpoints)
        return Ended(net.state_dict(), result)

    return go


@pytest.fixture(scope="module")
def uninterrupted(run: Trainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """The run that nobody interrupts, by optimiser of the tables."""
    kinds = ("adam", "adagrad")
    return {kind: run(tmp_path_factory.mktemp(kind), embedding_optimizer=kind) for kind in kinds}


@pytest.fixture(scope="module")
def whole(uninterrupted: dict[str, Ended]) -> Ended:
    """The one with Adam."""
    return uninterrupted["adam"]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    kills=st.lists(st.integers(1, BATCHES - 1), min_size=1, max_size=2),
    every=st.sampled_from([0, 1, 2, 5]),
    optimizer=st.sampled_from(["adam", "adagrad"]),
)
def test_killed_anywhere_it_ends_the_same(
    run: Trainer, uninterrupted: dict[str, Ended], kills: list[int], every: int, optimizer: str
) -> None:
    """After any batches, once or twice, whatever their distance: same weights bit for bit, same evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        kept, changed = Path(folder), {"checkpoint_batches": every, "embedding_optimizer": optimizer}
        for kill in kills:
            try:
                run(kept, kill_after=kill, resume=True, **changed)
            except Killed:
                continue
            break
        found = run(kept, resume=True, **changed)

    expected = uninterrupted[optimizer]
    assert_same(expected.weights, found.weights)
    assert expected.result.evaluations == found.result.evaluations
    assert expected.result.best_epoch == found.result.best_epoch


def test_it_does_go_on_rather_than_begin_again(run: Trainer, tmp_path: Path) -> None:
    """Killed after 9 of 12 batches with a checkpoint per 4: 4 are left."""
    with pytest.raises(Killed):
        run(tmp_path, kill_after=9, checkpoint_batches=4)
    with pytest.raises(Killed):
        run(tmp_path, kill_after=4, checkpoint_batches=100, resume=True)

    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        assert file.get_tensor("optimizer.steps").item() == 8
    assert run(tmp_path, kill_after=5, checkpoint_batches=100, resume=True)


def test_checkpoints_change_nothing(run: Trainer, whole: Ended, tmp_path: Path) -> None:
    """One after each batch or one per evaluation: the same weights, and no file is left by a finished run."""
    found = run(tmp_path, checkpoint_batches=1)

    assert_same(whole.weights, found.weights)
    assert whole.result.evaluations == found.result.evaluations
    assert not list(tmp_path.iterdir())


def test_without_resume_it_starts_from_the_beginning(run: Trainer, whole: Ended, tmp_path: Path) -> None:
    """The checkpoint of a run that was killed is not looked at."""
    with pytest.raises(Killed):
        run(tmp_path, kill_after=8, checkpoint_batches=1)

    assert len(run(tmp_path).result.evaluations) == len(whole.result.evaluations)


def test_a_checkpoint_of_another_configuration_is_refused(run: Trainer, tmp_path: Path) -> None:
    """One line with the file, the setting, both values, and what to do."""
    with pytest.raises(Killed):
        run(tmp_path, kill_after=3, checkpoint_batches=1)

    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors.*batch_size: found 240, allowed: 100"):
        run(tmp_path, resume=True, batch_size=100)


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign"])
def test_a_damaged_checkpoint_is_named(run: Trainer, tmp_path: Path, damage: str) -> None:
    """Cut short, no safetensors at all, or weights of something else: refused before any training."""
    with pytest.raises(Killed):
        run(tmp_path, kill_after=3, checkpoint_batches=1)
    path = tmp_path / CHECKPOINT
    raw = path.read_bytes()
    if damage == "foreign":
        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"\x00" * 100)

    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors"):
        run(tmp_path, resume=True)


def test_writing_leaves_one_whole_file(tmp_path: Path) -> None:
    """The second checkpoint takes the first one's place, and nothing else is there."""
    checkpoints = Checkpoints(tmp_path / "new", identity={}, resume=False)
    for value in (1.0, 2.0):
        checkpoints.write(Snapshot(tensors={"w": torch.tensor([value])}, place={"rng": 2**127, "auc": float("nan")}))

    again = Checkpoints(tmp_path / "new", identity={}, resume=True).start
    assert [CHECKPOINT] == [path.name for path in (tmp_path / "new").iterdir()]
    assert [2.0] == again.tensors["w"].tolist()
    assert again.place["rng"] == 2**127
    assert np.isnan(again.place["auc"])
    assert ["w"] == list(load_file(tmp_path / "new" / CHECKPOINT))


def test_the_identity_tells_settings_and_data_apart(small_log: Log) -> None:
    """Another learning rate or another label changes it; where the log lies and how often to write do not."""
    encoder = fit_encoder(small_log, synthetic_schema())
    split = encode_split(small_log.valid, encoder)
    changed = encode_split(small_log.valid.with_columns(1 - small_log.valid["label"]), encoder)
    config = {
        "schema": {},
        "net": {"kind": "din"},
        "train": {"rate": 1, "checkpoint_batches": 0},
        "data": {"path": "a"},
    }
    first = run_identity(config, {"train": split})

    moved = {**config, "data": {"path": "b"}, "train": {"rate": 1, "checkpoint_batches": 9}}
    assert first == run_identity(moved, {"train": split})
    assert first != run_identity({**config, "train": {"rate": 2, "checkpoint_batches": 0}}, {"train": split})
    assert first != run_identity(config, {"train": changed})


def assert_same(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
