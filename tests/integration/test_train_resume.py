"""`ctr-model train` killed with SIGKILL and resumed: the bundle of a run that was never interrupted, byte for byte."""

import json
import subprocess
import sys
import time
from pathlib import Path

from model.checkpoint import CHECKPOINT

CONFIG = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 40, items = 50, categories = 5, impressions_per_user = 40 } }
net = { kind = "dien", attention = [8], head = [16], dropout = 0.2 }
train = { epochs = 3, batch_size = 64, patience = 9, checkpoint_batches = 5 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "model.cli", *(str(arg) for arg in args)]


def succeed(*args: object) -> str:
    """What the command prints; it has to end well."""
    done = subprocess.run(command(*args), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, object]:
    """Every file; the manifest without its time stamp, and without the checksum of itself, which covers that."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    manifest = json.loads((folder / "v1" / "manifest.json").read_bytes())
    assert {"created", "checksum"} <= manifest.keys()
    return {**found, "v1/manifest.json": {**manifest, "created": None, "checksum": None}}


def test_a_killed_run_ends_in_the_same_bundle(tmp_path: Path) -> None:
    """Two trainings of one seed, one of them killed by SIGKILL after its first checkpoint and resumed: every file of
    the bundles is the same but for the time stamp.
    """
    config, whole, cut = tmp_path / "run.toml", tmp_path / "whole", tmp_path / "cut"
    config.write_text(CONFIG)
    succeed("train", config, "--out", whole)
    with subprocess.Popen(command("train", config, "--out", cut), stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 90
        while not (cut / CHECKPOINT).exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert (cut / CHECKPOINT).exists()
    assert not (cut / "weights.safetensors").exists()

    assert "going on in epoch" in succeed("train", config, "--out", cut, "--resume")
    for run in (whole, cut):
        succeed("export", run, "--out", tmp_path / "bundles" / run.name, "--version", "v1")

    assert not (cut / CHECKPOINT).exists()
    assert contents(tmp_path / "bundles" / "whole") == contents(tmp_path / "bundles" / "cut")
