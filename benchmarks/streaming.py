"""Does memory stay flat while a log grows? Preparation and training out of core at two sizes, and the usual ways.

    python -m benchmarks.streaming [--log table|behaviors|ads] [--rows N] [--small N] [--whole N] [--pandas N]
        [--trained N] [--memory-mb M] [--threads N] [--work FOLDER] [--result FILE]

A generated log of `--small` and of `--rows` rows is prepared in shards and trained for one whole epoch with a
validation split of the same 50,000 rows or so; every step is a process of its own. Its peak is the kernel's maximum
resident set (`ru_maxrss`): shards and Parquet are read, not mapped, so the page cache is no part of it. Beside it the
log in memory at `--small` rows, and pandas with a list per user at `--pandas` rows. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.load_process import clean_environ
from benchmarks.train_peers import ROOT, install

TARGETS = {"train_peak_ratio": ("<=", 1.1), "prepare_peak_ratio": ("<=", 1.1)}
_VALIDATED = 50_000
_ENDS = 400  # characters of a failed step's output
Said = dict[str, float]


class StepError(RuntimeError):
    """A step ended with an error; the message carries the end of its output."""


def step(name: str, folder: Path, options: argparse.Namespace, *, rows: int) -> Said:
    """Take a step of `benchmarks.streaming_steps`, or `pandas`; what it says, and its peak in MB. Raises StepError."""
    evaluated = min(max(_VALIDATED / rows, 0.001), 0.1)
    settings: dict[str, Any] = {"step": name, "folder": str(folder), "rows": rows, "evaluated": evaluated}
    settings |= {"memory_mb": options.memory_mb, "history": 50, "trained": options.trained, "log": options.log}
    environ = clean_environ(os.environ) | {
        name: str(options.threads) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")
    }
    module, path = "benchmarks.streaming_steps", [str(ROOT)]
    if name == "pandas":
        module, path = "benchmarks.peers.pandas_prepare", [str(ROOT), str(install())]
    command = [sys.executable, "-m", module, json.dumps(settings)]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**environ, "PYTHONPATH": os.pathsep.join(path)}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read().decode()
    if status:
        raise StepError(f"{name} of {rows:,} rows: {printed[-_ENDS:]}")
    said: Said = {**json.loads(printed.splitlines()[-1]), "peak_mb": usage.ru_maxrss / 1024}
    print(f"{name} {rows:,}: {json.dumps({k: round(v, 3) for k, v in said.items()})}", flush=True)
    return said


def measure(rows: int, options: argparse.Namespace, *, in_memory: bool) -> dict[str, Said]:
    """Every step at one size, the log deleted again; with `in_memory` the log in memory is prepared and trained too."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-", dir=options.work))
    try:
        names = ["generate", "prepare", "train", *(["in_memory"] if in_memory else [])]
        return {name: step(name, folder, options, rows=rows) for name in names}
    finally:
        shutil.rmtree(folder)


def measure_pandas(options: argparse.Namespace) -> Said:
    """The usual preparation at `--pandas` rows."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-", dir=options.work))
    try:
        step("generate", folder, options, rows=options.pandas)
        return step("pandas", folder, options, rows=options.pandas)
    finally:
        shutil.rmtree(folder)


def figures(
    base: Said, sizes: Mapping[str, Mapping[str, Said]], whole: Mapping[str, Said] | None, pandas: Said | None
) -> Said:
    """What the benchmark is about, by name."""
    out = {"base_mb": base["peak_mb"]}
    for name, said in sizes.items():
        prepared, trained = said["prepare"], said["train"]
        out |= {f"{name}_rows": prepared["rows"]}
        out |= {f"{name}_prepare_mb": prepared["peak_mb"], f"{name}_train_mb": trained["peak_mb"]}
        out |= {f"{name}_prepare_rows_per_s": prepared["rows"] / prepared["wall_s"]}
        out |= {f"{name}_prepare_rows_per_cpu_s": prepared["rows"] / prepared["cpu_s"]}
        out |= {f"{name}_train_rows_per_s": trained["rows"] / trained["train_s"]}
        out |= {f"{name}_train_rows_per_cpu_s": trained["rows"] / trained["train_cpu_s"], f"{name}_auc": trained["auc"]}
    for part in ("prepare", "train"):
        out[f"{part}_peak_ratio"] = sizes["large"][part]["peak_mb"] / sizes["small"][part]["peak_mb"]
    if whole is not None:
        shards, memory = whole["train"], whole["in_memory"]
        out |= {"whole_rows": whole["prepare"]["rows"], "whole_in_memory_mb": memory["peak_mb"]}
        out |= {"whole_in_shards_mb": max(shards["peak_mb"], whole["prepare"]["peak_mb"])}
        out |= {"whole_in_memory_auc": memory["auc"], "whole_in_shards_auc": shards["auc"]}
    if pandas is not None:
        out |= {"pandas_rows": pandas["rows"], "pandas_mb": pandas["peak_mb"]}
        out |= {"pandas_rows_per_cpu_s": pandas["rows"] / pandas["cpu_s"]}
        ours = out["small_prepare_rows_per_cpu_s"]
        out |= {"prepare_over_pandas": ours / out["pandas_rows_per_cpu_s"]}
    return out


def page(found: Said, options: argparse.Namespace) -> str:
    """The result as Markdown."""
    command = f"python -m benchmarks.streaming --log {options.log} --rows {options.rows} --small {options.small}"
    command += f" --whole {options.whole} --pandas {options.pandas} --trained {options.trained}"
    lines = [
        "# A log larger than memory",
        "",
        f"`{command} --memory-mb {options.memory_mb:g} --threads {options.threads}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"polars {pl.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, commit {_commit()}.",
        "Peaks are `ru_maxrss` of the step's own process; rows per second are of the wall, per CPU second of the CPU.",
        "",
        "| figure | value | target |",
        "|---|---|---|",
    ]
    for name, value in found.items():
        shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
        lines.append(f"| {name} | {shown} | {' '.join(map(str, TARGETS.get(name, ('', ''))))} |")
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the page and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", choices=("table", "behaviors", "ads"), default="table", help="form of the log")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--small", type=int, default=2_000_000)
    parser.add_argument("--whole", type=int, default=1_000_000, help="rows for the log in memory; 0 leaves it out")
    parser.add_argument("--pandas", type=int, default=500_000, help="rows for pandas, which takes tables; 0: without")
    parser.add_argument("--memory-mb", type=float, default=256.0)
    parser.add_argument("--trained", type=int, default=0, help="train on so many rows and read the rest; 0: on all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for the logs; default: the system's temporary one")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    base = step("import", Path(), options, rows=options.small)
    small = measure(options.small, options, in_memory=False)
    large = measure(options.rows, options, in_memory=False)
    whole = measure(options.whole, options, in_memory=True) if options.whole else None
    pandas = measure_pandas(options) if options.pandas and options.log == "table" else None
    found = figures(base, {"small": small, "large": large}, whole, pandas)
    text = page(found, options)
    if options.result is not None:
        options.result.write_text(text)
    print(text)
    print(json.dumps({"benchmark": "streaming", "metrics": found, "targets": TARGETS}))


if __name__ == "__main__":
    main()
