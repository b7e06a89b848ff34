"""What `benchmarks.quality` makes of finished trainings."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.quality import compared, table, targets
from benchmarks.quality_runs import Job, cache_file, figures, our_config
from model.bundle.errors import ConfigError


def run(auc: float, *, valid: float, log_loss: float = 0.5) -> dict[str, dict[str, float]]:
    """Figures of one training."""
    rest = {"gauc": auc, "pcoc": 1.0}
    return {"valid": {"auc": valid, "log_loss": 0.5, **rest}, "test": {"auc": auc, "log_loss": log_loss, **rest}}


def test_validation_decides_which_net_stands_against_the_best_peer() -> None:
    """The mean test AUC of the net with the better validation AUC, less the best measured or recorded peer's."""
    runs = {
        ("ours", "din"): [run(0.80, valid=0.70), run(0.82, valid=0.72)],
        ("ours", "dien"): [run(0.90, valid=0.60)],
        ("torch-rechub", "din"): [run(0.78, valid=0.99, log_loss=0.45)],
        ("deepctr-torch", "din"): [run(0.70, valid=0.99, log_loss=0.40)],
    }

    found = compared("ml1mhalf_rating", runs)

    assert found["ml1mhalf_rating_over_best_peer"] == pytest.approx(0.81 - 0.78)
    assert found["ml1mhalf_rating_log_loss_over_best_peer"] == pytest.approx(0.5 - 0.4)
    assert found["ml1mhalf_rating_dien_over_din"] == pytest.approx(0.90 - 0.81)


def test_recorded_figures_count_where_no_peer_was_trained() -> None:
    """FuxiCTR's recorded .7731 on ml1mhalf_rating is the best; log loss, which was not recorded, is left out."""
    found = compared("ml1mhalf_rating", {("ours", "din"): [run(0.78, valid=0.7)]})

    assert found == {"ml1mhalf_rating_over_best_peer": pytest.approx(0.78 - 0.7731, abs=1e-5)}


def test_the_table_gives_mean_and_spread() -> None:
    """Over seeds 0.80 and 0.82 the cell says 0.8100 (0.0200); a recorded peer has its AUC alone."""
    lines = table("sports_next", {("ours", "din"): [run(0.80, valid=0.7), run(0.82, valid=0.7)]}).splitlines()

    assert "| ours | din | 2 | 0.8100 (0.0200) |" in lines[2]
    assert "| torch-rechub (recorded) | din | 1 | 0.8145 | | | |" in lines


def test_every_target_is_a_comparison() -> None:
    """ml100k_rating separates nothing, so there it is enough not to be below; DIEN over DIN is asked of sequences."""
    found = targets(["ml100k_rating", "beauty_next"])

    assert found["ml100k_rating_over_best_peer"] == (">=", 0)
    assert found["beauty_next_over_best_peer"] == (">=", 0.005)
    assert found["beauty_next_dien_over_din"] == (">=", 0)
    assert "ml100k_rating_dien_over_din" not in found


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    """Figures that the cache has are given back without any data there."""
    job = Job(data=tmp_path, task="ml100k_rating", system="torch-rechub", net="din", seed=0)
    path = cache_file(job, tmp_path)
    path.write_text(json.dumps({**run(0.7, valid=0.6), "seconds": 1.0}))

    assert figures(job, tmp_path) == run(0.7, valid=0.6)


def test_both_nets_are_trained_by_the_recipe(tmp_path: Path) -> None:
    """Both nets take the recipe's factor term, at the task's history length and the job's seed."""
    job = Job(data=tmp_path, task="ml100k_rating", system="ours", net="dien", seed=2)

    config = our_config(job)

    assert config.net["kind"] == "dien"
    assert config.net["factors"] == 16
    assert (config.schema.max_history, config.train.seed) == (50, 2)
    other = dataclasses.replace(job, seed=3)
    assert cache_file(job, tmp_path) != cache_file(other, tmp_path)


def test_another_task_of_the_same_kind_gets_the_recipe(tmp_path: Path) -> None:
    """By the ending of its name; another ending is refused with the two that are known."""
    job = Job(data=tmp_path, task="toys_next", system="ours", net="dien", seed=0)

    assert our_config(job).net["residual"] is True
    assert our_config(job).schema.max_history == 20
    with pytest.raises(ConfigError, match="found 'toys', allowed: a name that ends in _rating or _next"):
        our_config(dataclasses.replace(job, task="toys"))
