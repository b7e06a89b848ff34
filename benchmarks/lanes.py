"""What do processes that read their own lanes of a log in shards read, and what do they hold?

    python -m benchmarks.lanes [--rows N] [--ranks N] [--memory-mb M] [--trained N] [--work FOLDER] [--result FILE]

A generated log is prepared in shards. Then an epoch of it is read, and trained on for `--trained` rows and read to the
end, by one process and by `--ranks` of them: with `--memory-mb` divided by the ranks, so that all windows have as many
rows as the one process's, and with `--memory-mb` for each. One thread a process. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load_process import clean_environ
from benchmarks.streaming import step
from benchmarks.train_peers import ROOT

Said = dict[str, float]
Case = tuple[str, list[Said]]  # what it is, and what each of its processes said


def started(settings: Mapping[str, Any], *, ranks: int = 1) -> list[Said]:
    """Take a step of `benchmarks.streaming_steps` (`Any`: JSON); what each process said, the largest reader first."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "benchmarks.streaming_steps", json.dumps(settings)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    environ = clean_environ(os.environ) | threads | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    print(f"{settings['step']}, {ranks} processes: {json.dumps(said)}", flush=True)
    return said


def measured(folder: Path, options: argparse.Namespace) -> list[Case]:
    """Every case on the log in `folder`."""
    ranks, memory = options.ranks, options.memory_mb
    told = {"folder": str(folder), "log": options.log, "trained": options.trained}

    def read(lanes: int, mine: range, memory_mb: float) -> Said:
        where = {"lanes": lanes, "mine": [mine.start, mine.stop], "memory_mb": memory_mb}
        return started({**told, "step": "read", **where})[0]

    def train(memory_mb: float, several: int) -> list[Said]:
        return started({**told, "step": "train", "memory_mb": memory_mb}, ranks=several)

    every = [range(rank, rank + 1) for rank in range(ranks)]
    return [
        ("read, one process", [read(1, range(1), memory)]),
        (f"read, one process with {ranks} lanes, the same windows", [read(ranks, range(ranks), memory / ranks)]),
        (f"read, each of {ranks}, the same windows", [read(ranks, mine, memory / ranks) for mine in every]),
        (f"read, each of {ranks}, windows {ranks} times larger", [read(ranks, mine, memory) for mine in every]),
        ("train, one process", train(memory, 1)),
        (f"train, each of {ranks}, the same windows", train(memory / ranks, ranks)),
        (f"train, each of {ranks}, windows {ranks} times larger", train(memory, ranks)),
    ]


def page(cases: list[Case], options: argparse.Namespace) -> str:
    """The result as Markdown."""
    command = f"python -m benchmarks.lanes --rows {options.rows} --ranks {options.ranks}"
    command += f" --memory-mb {options.memory_mb:g} --trained {options.trained}"
    lines = [
        "# Processes that read their own lanes",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, one thread a process, {os.cpu_count()} cores.",
        "Peaks are `ru_maxrss` of each process, bytes what it asked the kernel for (`rchar`), CPU seconds its own.",
        "",
        "| case | rows taken | MB read | CPU seconds of reading | peak MB |",
        "|---|---|---|---|---|",
    ]
    for name, said in cases:
        columns = [
            " and ".join(f"{one[key]:,.{digits}f}" for one in said if key in one)
            for key, digits in (("taken", 0), ("read_mb", 0), ("read_cpu_s", 1), ("peak_mb", 0))
        ]
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the page and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--memory-mb", type=float, default=256.0)
    parser.add_argument("--trained", type=int, default=163_840)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)  # of `step`, as is `--log`
    parser.add_argument("--log", default="table", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help="folder for the log; default: the system's temporary one")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="lanes-", dir=options.work) as work:
        for name in ("generate", "prepare"):
            step(name, Path(work), options, rows=options.rows)
        cases = measured(Path(work), options)
    text = page(cases, options)
    if options.result is not None:
        options.result.write_text(text)
    print(text)
    figures = {f"{name}: peak_mb": max(one["peak_mb"] for one in said) for name, said in cases}
    print(json.dumps({"benchmark": "lanes", "metrics": figures, "targets": {}}))


if __name__ == "__main__":
    main()
