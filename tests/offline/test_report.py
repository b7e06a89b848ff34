"""The report: one file that asks nobody, the same bytes for the same run, and every figure in JSON."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.bundle.calibration import UNCALIBRATED, Calibration
from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.cli import app
from model.data.log import Log
from model.evaluate import user_activity
from model.metrics import all_metrics, rela_impr
from model.pipeline import evaluated
from model.predictions import Predictions, load_predictions, save_predictions, scored_splits
from model.report.charts import ticks
from model.report.figures import HISTORY_BUCKETS, Scores, bucket_name, split_figures
from model.report.page import REPORT_HTML, REPORT_JSON, report_files
from model.run_folder import TrainedRun, load_run

LOADING = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")


class Tags(HTMLParser):
    """What the page consists of; fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rows(count: int, *, seed: int = 0) -> Predictions:
    """Predictions of nobody in particular, with short and long histories."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1, count).astype(np.float32)
    return Predictions(
        label=(rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32),
        logit=logit,
        user=rng.integers(0, max(count // 8, 1), count),
        timestamp=np.arange(count),
        length=rng.integers(0, 60, count),
        activity=rng.integers(0, 300, count),
    )


@pytest.fixture(scope="module")
def run(trained_runs: dict[str, Path], small_synthetic_log: Log) -> TrainedRun:
    """A trained DIN, evaluated on its test split."""
    return evaluated(load_run(trained_runs["din"]), small_synthetic_log, split="test")


@pytest.fixture(scope="module")
def page(run: TrainedRun) -> str:
    return report_files(run.report)[REPORT_HTML].decode()


def test_the_page_is_one_file_that_loads_nothing(page: str) -> None:
    """No script, no link, no image, no address, and every tag is closed where it should be."""
    tags = Tags()
    tags.feed(page)

    assert tags.open == []
    assert {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.seen} == set()
    assert [attrs for _, attrs in tags.seen if set(attrs) & set(LOADING)] == []
    assert re.findall(r"https?:|@import|url\(", page) == []


def test_every_chart_can_be_read_out(page: str) -> None:
    """Each is an image with a text, has names on both axes, and there is one per promised figure."""
    tags = Tags()
    tags.feed(page)
    charts = [attrs for tag, attrs in tags.seen if tag == "svg"]

    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in charts)
    assert page.count('class="name"') == 2 * len(charts)
    promised = ("AUC while training", "log loss while", "ROC", "Calibration", "Score distribution", "AUC by history")
    for title in (*promised, "AUC by user activity", "A history of"):
        assert any(str(attrs["aria-label"]).startswith(title) for attrs in charts), title


def test_equal_runs_give_equal_bytes(
    run: TrainedRun, page: str, trained_runs: dict[str, Path], small_synthetic_log: Log
) -> None:
    """Evaluated once more from the folder; and nothing tells where on this machine it was."""
    again = evaluated(load_run(trained_runs["din"]), small_synthetic_log, split="test")

    assert report_files(again.report) == report_files(run.report)
    for raw in report_files(run.report).values():
        assert str(trained_runs["din"].parent).encode() not in raw
    assert page.startswith("<!doctype html>")


def test_the_page_is_made_again_from_the_figures(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    """`ctr-model report` needs `report.json` alone; without it, exit code 2 and the file's name."""
    for name, expected in ((REPORT_JSON, 0), ("config.json", 2)):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(trained_runs["din"] / name, folder)
        result = CliRunner().invoke(app, ["report", str(folder)])
        assert result.exit_code == expected

    made = tmp_path / REPORT_JSON / REPORT_HTML
    assert made.read_bytes() == (trained_runs["din"] / REPORT_HTML).read_bytes()
    assert REPORT_JSON in result.stderr


def test_names_of_the_log_are_text_not_markup(run: TrainedRun) -> None:
    """A run or an item called like a tag is shown, not run."""
    attention = [{**run.report["attention"][0], "candidates": ["<script>"], "weights": [[0.1] * 16]}]
    raw = report_files({**run.report, "name": "<script>alert(1)</script>", "attention": attention})[REPORT_HTML]

    assert b"<script>" not in raw
    assert b"&lt;script&gt;alert" in raw


def test_the_bundle_carries_the_report(bundles: dict[str, Path], trained_runs: dict[str, Path]) -> None:
    """Both files, checksummed like all others, and the same as in the run."""
    files = read_bundle(bundles["din"]).files

    for name in (REPORT_JSON, REPORT_HTML):
        assert files[name] == (trained_runs["din"] / name).read_bytes()


def test_the_figures_are_those_of_the_calibrated_scores(run: TrainedRun, small_synthetic_log: Log) -> None:
    """Report and run agree, and on the rows that it was fitted on calibration makes no log loss worse."""
    for split in ("valid", "test"):
        for name, found in run.report["splits"][split]["metrics"].items():
            assert found["value"] == pytest.approx(run.metrics["splits"][split][name], abs=1e-6)
            assert found["low"] <= found["value"] <= found["high"]
    assert run.calibration.kind == run.report["calibration"]["kind"] == "platt"
    valid = run.report["splits"]["valid"]
    assert valid["before_calibration"]["log_loss"] >= valid["metrics"]["log_loss"]["value"]
    assert valid["metrics"]["pcoc"]["value"] == pytest.approx(1, abs=0.01)


def test_rela_impr_needs_a_base_of_the_same_rows() -> None:
    """Against the formula, in every slice too; a base of other rows is refused by evaluation."""
    ours, base = rows(2_000), Scores(rows(2_000), UNCALIBRATED)
    noise = np.random.default_rng(4).normal(0, 1, 2_000).astype(np.float32)
    base.pctr = UNCALIBRATED.pctr(base.rows.logit + noise)

    found = split_figures(ours, UNCALIBRATED, base=base, samples=50)["metrics"]["rela_impr"]
    best = all_metrics(ours.label, UNCALIBRATED.pctr(ours.logit), ours.user)["auc"]

    assert found["value"] == pytest.approx(rela_impr(best, base.metrics()["auc"]), abs=1e-6)
    assert 0 < found["low"] < found["value"] < found["high"]


def test_slices_cut_the_split(run: TrainedRun) -> None:
    """Every row is in one bucket of each kind, and the buckets' names say which."""
    figures = split_figures(rows(3_000), UNCALIBRATED, samples=10)

    for slices in ("by_history_length", "by_activity"):
        assert sum(part["rows"] for part in figures[slices]) == 3_000
    assert [part["bucket"] for part in figures["by_history_length"]] == [
        "0",
        "1-2",
        "3-5",
        "6-10",
        "11-20",
        "21-50",
        "51+",
    ]
    assert bucket_name(HISTORY_BUCKETS[0], HISTORY_BUCKETS[1]) == "0"


def test_a_split_of_one_class_has_a_page_all_the_same(run: TrainedRun) -> None:
    """What is no number is null in JSON and a dash on the page."""
    split = rows(50)
    one = split_figures(Predictions(**{**vars(split), "label": np.ones(50, np.float32)}), UNCALIBRATED, samples=10)
    files = report_files({**run.report, "splits": {"valid": one}})

    assert json.loads(files[REPORT_JSON])["splits"]["valid"]["metrics"]["auc"]["value"] is None
    assert b"nan" not in files[REPORT_HTML].lower().replace(b"nance", b"")


def test_activity_counts_the_training_rows_of_each_user(small_synthetic_log: Log) -> None:
    """Row by row; 0 for a user whom training does not know."""
    log = small_synthetic_log
    known = log.train["user_id"].to_list()
    frame = log.test.head(20)

    assert user_activity(frame, log.train, log_keys()).tolist() == [known.count(u) for u in frame["user_id"]]
    assert user_activity(frame, log.train.clear(), log_keys()).tolist() == [0] * 20


def log_keys():
    from model.data.synthetic import synthetic_schema  # noqa: PLC0415  # used here only

    return synthetic_schema().keys


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    """The same arrays and the same fingerprint; a missing or broken file is named."""
    before = rows(30)
    save_predictions(tmp_path, {"test": before})
    after = load_predictions(tmp_path, "test")

    for name, array in vars(before).items():
        np.testing.assert_array_equal(array, getattr(after, name))
    assert after.fingerprint == before.fingerprint != rows(30, seed=1).fingerprint
    assert scored_splits(tmp_path) == ["test"]
    with pytest.raises(ConfigError, match=r"predictions/valid\.npz"):
        load_predictions(tmp_path, "valid")
    (tmp_path / "predictions" / "test.npz").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"predictions/test\.npz"):
        load_predictions(tmp_path, "test")


def test_ticks_are_round_and_inside() -> None:
    """1, 2 or 5 times a power of ten, at most six of them, for ranges of any size."""
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.601, 0.637) == [0.61, 0.62, 0.63]
    for low, high in ((0.0, 3e-4), (-1.0, 7.3), (0.0, 1234.0)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 6
        assert low <= found[0]
        assert found[-1] <= high + 1e-9


def test_the_learning_curve_shows_raw_and_the_plot_both(run: TrainedRun) -> None:
    """Calibration before and after is there in bins that hold all rows."""
    curves = run.report["splits"]["test"]["calibration_curve"]

    assert set(curves) == {"before", "after"}
    assert {sum(bin["rows"] for bin in curve) for curve in curves.values()} == {run.report["splits"]["test"]["rows"]}
    assert isinstance(run.calibration, Calibration)
