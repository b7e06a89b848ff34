"""Our service beside what people run today: the tutorial baseline, mosec, LitServe, BentoML and Ray Serve.

    python -m benchmarks.serve [--quick] [--peers mosec,ray] [--nets din,dien] [--result FILE]

One job for all: the same JSON, the same 10,000 histories in Redis, the same weights; scores are compared first.
docs/benchmarks.md says what each figure means. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime

from benchmarks.load_wrk import LoadError
from benchmarks.serve_loops import Bench, Plan
from benchmarks.serve_material import prepared
from benchmarks.serve_peers import OURS, PEERS
from benchmarks.serve_report import TARGETS, best_peer, markdown, metrics

FULL = Plan(
    systems=(OURS, *PEERS),
    kinds=("din", "dien"),
    counts=(100, 500),
    connections=(1, 4, 16, 64),
    rounds=3,
    seconds=6,
    open_seconds=20,
)
QUICK = replace(FULL, kinds=("din",), counts=(500,), connections=(1, 4), rounds=1, seconds=2, open_seconds=4)
PHASE_REQUESTS = 400


def main() -> None:
    """Measure, write the page, and print it with the JSON object."""
    options = _options()
    plan = _plan(options)
    try:
        with tempfile.TemporaryDirectory() as folder, prepared(Path(folder), plan.kinds) as material:
            bench = Bench(plan, material=material, cache=options.cache)
            bench.closed_loops()
            bench.phases(plan.kinds, requests=50 if options.quick else PHASE_REQUESTS)
            bench.open_loops(_open_systems(bench, plan))
    except LoadError as error:
        sys.exit(str(error))
    figures = metrics(bench.results)
    page = markdown(bench.results, figures, header=_header())
    if options.result is not None:
        options.result.write_text(page)
    print(page)
    print(json.dumps({"benchmark": "serve", "metrics": figures, "targets": TARGETS}))


def _open_systems(bench: Bench, plan: Plan) -> list[tuple[str, str]]:
    """Our service for every net; the best peer for DIN, to see the same load without refusals."""
    systems = [(OURS, kind) for kind in plan.kinds if OURS in plan.systems]
    peer = best_peer(bench.results, plan.kinds[0], plan.counts[-1])
    return [*systems, (peer, plan.kinds[0])] if peer else systems


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    given = {
        "systems": options.peers and (OURS, *options.peers),
        "kinds": options.nets,
        "counts": options.counts and [int(n) for n in options.counts],
        "connections": options.connections and [int(n) for n in options.connections],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "open_seconds": options.open_seconds,
    }
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    unknown = set(plan.systems) - {OURS, *PEERS}
    if unknown:
        sys.exit(f"--peers: found {', '.join(sorted(unknown))}, allowed: {', '.join(PEERS)}")
    return plan


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="DIN, 500 candidates, one short round")
    parser.add_argument("--peers", type=names, help=f"of {','.join(PEERS)}; default all")
    parser.add_argument("--nets", type=names, help="of din,dien")
    parser.add_argument("--counts", type=names, help="candidates per request, such as 100,500")
    parser.add_argument("--connections", type=names, help="of the closed loops, such as 1,4,16,64")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each closed loop")
    parser.add_argument("--open-seconds", type=float, help="of each open loop")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ctr-scorer" / "peers")
    parser.add_argument(
        "--result", type=Path, help="write the page there, as benchmarks/results/serve_2cores_202611.md"
    )
    return parser.parse_args()


def _header() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = ", ".join(peer.requirement for peer in PEERS.values() if peer.requirement)
    return (
        f"# serve, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"Command: `python -m benchmarks.serve {' '.join(sys.argv[1:])}`, at commit {commit.stdout.strip()}.\n"
        f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, {versions}.\n"
        f"Load average at the end {os.getloadavg()[0]:.1f}; load generator, Redis and server share the cores."
    )


if __name__ == "__main__":
    main()
