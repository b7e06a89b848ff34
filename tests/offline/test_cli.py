"""`ctr-model` from a log to a bundle, in order, and what it says when something is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from model.bundle.folder import read_bundle
from model.cli import app
from model.config import read_config
from model.data.log import read_log

CONFIG = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 60, items = 50, categories = 5, impressions_per_user = 40 } }
net = { kind = "din", attention = [8], head = [16] }
train = { epochs = 2, batch_size = 128, learning_rate = 0.01 }
[schema]
max_history = 10
keys = { category = "cate_id" }
context = [{ name = "hour", dim = 2 }]
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }, { name = "price", kind = "dense" }]
behavior = [
  { shares = "item_id", column = "hist_item_ids" },
  { shares = "cate_id", column = "hist_cate_ids" },
]
"""


def run(*args: object) -> Result:
    """The command, on a terminal wide enough for its tables."""
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def succeed(*args: object) -> str:
    """What the command prints; it has to end well."""
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*args: object) -> str:
    """The one line that the command prints on stderr; it has to end with exit code 2."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def row(printed: str, split: str) -> list[str]:
    """The cells of the table's row for that split."""
    (line,) = [line for line in printed.splitlines() if line.startswith(f"│ {split}")]
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration in a folder of its own; `run` beside it is a trained run once `trained` is asked for."""
    path = tmp_path_factory.mktemp("cli") / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config: Path) -> tuple[Path, str]:
    """A trained run and what `train` printed."""
    out = config.parent / "run"
    return out, succeed("train", config, "--out", out)


@pytest.fixture
def run_folder(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the run to change or damage."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_train_prints_the_bayes_auc_beside_the_nets(config: Path, trained: tuple[Path, str]) -> None:
    """Both with four digits, in the row of the validation split; the run's own figure is the same."""
    out, printed = trained
    settings = read_config(config)
    bayes = read_log(settings.data, settings.schema, base=settings.base).bayes_auc
    figures = json.loads((out / "metrics.json").read_text())["splits"]["valid"]

    last_table = printed[printed.rindex("split") :]
    assert row(last_table, "valid")[:3] == ["valid", f"{figures['auc']:.4f}", f"{bayes['valid']:.4f}"]
    assert f"din: best after {json.loads((out / 'metrics.json').read_text())['best_epoch']:.2f} epochs" in printed


def test_evaluate_adds_the_test_split(config: Path, run_folder: Path) -> None:
    """Printed beside its Bayes AUC, and kept in the run."""
    printed = succeed("evaluate", run_folder, "--config", config)

    figures = json.loads((run_folder / "metrics.json").read_text())["splits"]
    assert set(figures) == {"valid", "test"}
    assert row(printed, "test")[1] == f"{figures['test']['auc']:.4f}"
    assert 0.5 < float(row(printed, "test")[2]) < 1


def test_evaluate_with_a_base_adds_rela_impr(config: Path, run_folder: Path, tmp_path: Path) -> None:
    """Against the base run's AUC on the same rows, printed, in run and report; a base without scores gets them."""
    base = tmp_path / "base"
    succeed("train", config, "--net", "base", "--out", base)
    assert "found 'din', allowed: 'base'" in fail("evaluate", run_folder, "--config", config, "--base", run_folder)

    printed = succeed("evaluate", run_folder, "--config", config, "--base", base)

    aucs = [json.loads((run / "metrics.json").read_text())["splits"]["test"] for run in (run_folder, base)]
    expected = (aucs[0]["auc"] - 0.5) / (aucs[1]["auc"] - 0.5) - 1 if aucs[1]["auc"] > 0.5 else None
    report = json.loads((run_folder / "report.json").read_text())["splits"]["test"]
    assert report["metrics"]["rela_impr"]["value"] == pytest.approx(expected, abs=1e-6)
    assert "report.html" in printed.replace("\n", "")
    assert f"scored {base} as well" in printed.replace("\n", "")
    assert row(printed, "test")[-2] == f"{expected:.4f}"


def test_export_writes_a_bundle_that_inspect_reads(run_folder: Path, tmp_path: Path) -> None:
    """The gate passes, `stable` points to the version, and inspect says what is in it."""
    out = tmp_path / "bundles"
    printed = succeed("export", run_folder, "--out", out, "--version", "v7")
    inspected = succeed("inspect", out)

    assert "parity gate passed" in printed
    assert (out / "stable").read_text().strip() == "v7"
    assert "tiny v7" in inspected
    for said in ("user.onnx in", "candidate.onnx out", "vocabulary item_id", "50 items", "metrics valid", "verified"):
        assert said in inspected
    assert read_bundle(out).manifest.net["kind"] == "din"


def test_export_leaves_stable_alone_if_told_to(run_folder: Path, tmp_path: Path) -> None:
    """`--no-stable` writes the version and no pointer."""
    succeed("export", run_folder, "--out", tmp_path / "bundles", "--version", "v1", "--no-stable")

    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["v1"]


def test_a_damaged_run_is_not_exported(run_folder: Path, tmp_path: Path) -> None:
    """Weights that are no numbers: exit code 2, one line, nothing written."""
    weights = load_file(run_folder / "weights.safetensors")
    weights["head.bias"].fill_(float("nan"))
    save_file(weights, run_folder / "weights.safetensors")

    fail("export", run_folder, "--out", tmp_path / "bundles")

    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.json", "weights.safetensors", "golden.npz", "vocab", "vocab/prior_ctr.npy"]
)
def test_a_run_with_a_hole_is_named(config: Path, run_folder: Path, tmp_path: Path, name: str) -> None:
    """Each missing part is one line with the file's name, for `export` and for `evaluate`."""
    path = run_folder / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

    assert str(path) in fail("export", run_folder, "--out", tmp_path / "bundles")
    assert str(path) in fail("evaluate", run_folder, "--config", config)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "weights.safetensors", "golden.npz"])
def test_a_run_that_is_garbage_is_named(run_folder: Path, tmp_path: Path, name: str) -> None:
    """A file cut short: one line with its name."""
    path = run_folder / name
    path.write_bytes(path.read_bytes()[:20])

    assert str(path) in fail("export", run_folder, "--out", tmp_path / "bundles")


def test_a_prepared_log_trains_like_the_log_itself(config: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    """`synth` writes the log as a task; training on that gives the same figures, Bayes AUC included."""
    printed = succeed("synth", config, "--out", tmp_path / "log")
    assert row(printed[: printed.rindex("split")], "train")[-1] != "-"  # the first of the two tables
    assert (tmp_path / "log" / "train.parquet").is_file()
    again = tmp_path / "task.toml"
    head, _, tail = CONFIG.partition("data = ")
    again.write_text(head + 'data = { format = "task", path = "log" }\n' + tail.partition("\n")[2])

    printed = succeed("train", again, "--out", tmp_path / "run")

    first, second = (json.loads((path / "metrics.json").read_text()) for path in (trained[0], tmp_path / "run"))
    assert first == second
    assert row(printed[printed.rindex("split") :], "valid")[1] == f"{first['splits']['valid']['auc']:.4f}"
    succeed("prepare", again, "--out", tmp_path / "copy")
    assert (tmp_path / "copy" / "items.parquet").is_file()


def test_another_net_on_the_command_line(config: Path, tmp_path: Path) -> None:
    """`--net base` trains that one; a net that does not exist is one line."""
    printed = succeed("train", config, "--out", tmp_path / "run", "--net", "base")

    assert "base: best after" in printed
    assert "found 'mlp', allowed: one of base, wide_deep, pnn, din, " in fail(
        "train", config, "--out", tmp_path / "no", "--net", "mlp"
    )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("epochs = 2", "epochs = 0", "train.epochs: found 0, allowed: >= 1"),
        ("categories = 5", "categories = 500", "synthetic.items: found 50, allowed: at least `categories`"),
        ('format = "synthetic"', 'format = "task"', "data.path: found None, allowed: the folder of a log"),
        ('format = "synthetic"', 'format = "task", path = "nowhere"', "nowhere"),
        ("name = ", "name ", "(syntax)"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    """No stack trace, exit code 2, and nothing written."""
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.replace(right, wrong, 1))

    assert said in fail("train", path, "--out", tmp_path / "run")
    assert said in fail("prepare", path, "--out", tmp_path / "log")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(config: Path, tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "out").write_text("")

    assert str(tmp_path / "out") in fail("prepare", config, "--out", tmp_path / "out")


def test_synth_is_for_synthetic_logs(tmp_path: Path) -> None:
    """Another format is refused rather than copied."""
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.replace('format = "synthetic"', 'format = "movielens"'))

    assert "data.format: found 'movielens', allowed: 'synthetic'" in fail("synth", path, "--out", tmp_path / "log")


def test_inspect_of_no_bundle_is_one_line(tmp_path: Path) -> None:
    """A folder without a manifest."""
    assert "manifest.json" in fail("inspect", tmp_path)
