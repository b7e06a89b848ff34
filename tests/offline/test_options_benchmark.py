"""`benchmarks.options` measures every option, with settings that training takes."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.options import BASELINE, changed, config_of, difference, table
from benchmarks.options_studies import SPEED, STUDIES, UNMEASURED
from model.calibration import CalibrationConfig
from model.nets import NETS
from model.run_folder import config_table
from model.train_config import TrainConfig

VARIANTS = [(study, label) for study in STUDIES for label in STUDIES[study].variants]


@pytest.mark.parametrize(("study", "label"), VARIANTS)
def test_a_variant_is_another_valid_run(study: str, label: str) -> None:
    """Training takes its settings, and they are not the baseline's."""
    tables = [config_table(config_of(STUDIES[study], c, data=Path())) for c in ({}, STUDIES[study].variants[label])]

    assert tables[0] != tables[1]


def test_every_option_is_measured_or_said_not_to_be() -> None:
    """Each key of [net], [train] and [calibration] is in a variant, in a pair of the speed, or has its reason."""
    nets = {f"net.{f.name}" for config, _ in NETS.values() for f in dataclasses.fields(config)}
    train = {f"train.{f.name}" for f in dataclasses.fields(TrainConfig)}
    calibration = {f"calibration.{f.name}" for f in dataclasses.fields(CalibrationConfig)}
    measured = {key for study in STUDIES.values() for changes in study.variants.values() for key in changes}
    measured |= {key for _, changes in SPEED.values() for key in changes}

    assert (nets | train | calibration) - measured == UNMEASURED.keys()


def test_changes_reach_into_lists() -> None:
    """A number in a key is an entry; None takes an entry away, the number after the last one adds one."""
    before = {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": 3}

    assert changed(before, {"a.b.1.c": 5}) == {"a": {"b": [{"c": 1}, {"c": 5}]}, "d": 3}
    assert changed(before, {"a.b.0": None, "d": None}) == {"a": {"b": [{"c": 2}]}}
    assert changed(before, {"a.b.2": {"c": 9}})["a"]["b"][2] == {"c": 9}
    assert before == {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": 3}


def test_differences_are_those_of_the_same_seed() -> None:
    """Mean, lowest and highest of what a variant has over the baseline, seed by seed."""
    found = {
        BASELINE: [{"auc": 0.7, "log_loss": 0.6}, {"auc": 0.8, "log_loss": 0.5}],
        "net.x = 1": [{"auc": 0.71, "log_loss": 0.6}, {"auc": 0.83, "log_loss": 0.4}],
    }

    assert difference(found, "net.x = 1", "auc") == pytest.approx(0.02)
    cells = [cell.strip() for cell in table(found).splitlines()[-1].strip("|").split("|")]
    assert cells[1:4] == ["0.7700", "0.5000", "+0.0200 (+0.0100 to +0.0300)"]
