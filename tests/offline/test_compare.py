"""`ctr-model compare`: runs side by side, with paired differences where they scored the same rows."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.cli import app
from model.compare import common_split, compare, other_settings, read_compared
from model.metrics import rela_impr
from model.predictions import load_predictions, save_predictions


def printed(*args: object) -> str:
    """What the command prints on a wide terminal; it has to end well."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "240"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_runs_are_compared_with_the_first(trained_runs: dict[str, Path]) -> None:
    """Differences are those of the figures, RelaImpr is against the run of `base`, settings that differ are named."""
    order = ["base", "din", "dien"]
    found = json.loads(printed("compare", *(trained_runs[kind] for kind in order), "--json"))
    base, din, _ = found["runs"]

    assert found["split"] == "valid"
    assert [run["net"] for run in found["runs"]] == order
    assert "difference" not in base
    for name, difference in din["difference"].items():
        expected = din["metrics"][name]["value"] - base["metrics"][name]["value"]
        assert difference["value"] == pytest.approx(expected, abs=2e-6)
        assert difference["low"] <= difference["high"]
    aucs = (din["metrics"]["auc"]["value"], base["metrics"]["auc"]["value"])
    assert din["metrics"]["rela_impr"]["value"] == pytest.approx(rela_impr(*aucs), abs=1e-4)
    assert found["settings"]["net.kind"] == order


def test_the_tables_say_the_same(trained_runs: dict[str, Path]) -> None:
    """A row per metric and a column per run; the settings below."""
    text = printed("compare", trained_runs["base"], trained_runs["din"])

    for said in ("valid split", "AUC", "GAUC", "log loss", "ECE", "RelaImpr", "settings that differ", "net.kind"):
        assert said in text


def test_a_run_against_itself_differs_by_nothing(trained_runs: dict[str, Path]) -> None:
    """The interval of the paired difference is 0 to 0, and no setting differs."""
    run = read_compared(trained_runs["din"], "valid")
    found = compare([run, run], "valid", samples=20)

    assert all(d == {"value": 0.0, "low": 0.0, "high": 0.0} for d in found["runs"][1]["difference"].values())
    assert found["settings"] == {}


def test_other_rows_have_no_differences(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """A run that scored a part of the rows is shown without differences, and the command says so."""
    other = Path(shutil.copytree(trained_runs["din"], tmp_path / "other"))
    save_predictions(other, {"valid": load_predictions(other, "valid").take(slice(0, 500))})

    text = printed("compare", trained_runs["din"], other)
    found = compare([read_compared(trained_runs["din"], "valid"), read_compared(other, "valid")], "valid", samples=10)

    assert "difference" not in found["runs"][1]
    assert "no differences" in text


def test_what_is_missing_is_named(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """Exit code 2 and one line: a folder that is no run, a split that was not scored."""
    assert common_split([trained_runs["din"]]) == "valid"
    for args, said in (
        ([trained_runs["din"], tmp_path], "config.json"),
        ([trained_runs["din"], "--split", "test"], "predictions/test.npz"),
    ):
        result = CliRunner().invoke(app, ["compare", *map(str, args)])
        assert result.exit_code == 2
        assert said in result.stderr


def test_settings_are_compared_by_dotted_key() -> None:
    """Nested tables, keys that only one has, and nothing that is the same."""
    one, other = {"net": {"kind": "din", "head": [8]}, "name": "a"}, {"net": {"kind": "dien", "head": [8]}, "name": "a"}

    assert other_settings([one, {**other, "seed": 1}]) == {"net.kind": ["din", "dien"], "seed": [None, 1]}
