"""`ctr-service bench`: the flags, and what the shell gets."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from service.bench.requests import Requests
    from service.bench.steps import Promise, Ramp

FOUND, NONE_HELD, WRONG = 0, 1, 2  # exit codes
_RANGE = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")


def bench(  # noqa: PLR0913  # one parameter per flag
    url: Annotated[str, typer.Argument(help="The service, as http://127.0.0.1:8080.")],
    *,
    users: Annotated[str, typer.Option(help="User ids to ask for, FIRST:LAST.")] = "1:10000",
    items: Annotated[str, typer.Option(help="Item ids, FIRST:LAST; empty: drawn from the bundle's catalogue.")] = "",
    candidates: Annotated[int, typer.Option(min=1, max=100_000, help="Candidates in a request.")] = 100,
    slo_ms: Annotated[float, typer.Option(min=0.1, help="Latency promised, in milliseconds.")] = 30.0,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the scored answers within it.")] = 0.99,
    failed: Annotated[float, typer.Option(min=0, max=1, help="Most requests refused or in error, as a share.")] = 0.001,
    start_rate: Annotated[float, typer.Option(min=0.1, help="Requests per second of the first step.")] = 10.0,
    step: Annotated[float, typer.Option(min=1.01, max=10, help="Each step's rate over the one before.")] = 1.25,
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="Length of a step.")] = 10.0,
    steps: Annotated[int, typer.Option(min=1, help="Most steps.")] = 60,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of keys; the first goes as Authorization: Bearer.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for all figures, as JSON.")] = None,
) -> None:
    """Ask a running service for more and more until its promise breaks, and say what it held.

    Requests come at random moments whether or not earlier ones are answered, and latency counts from the moment a
    request was meant to be sent. Run it from another machine than the service's.
    """
    from service.bench.steps import Promise, Ramp  # noqa: PLC0415  # `serve` need not wait for it
    from service.bench.target import BenchError  # noqa: PLC0415  # the same

    try:
        asked, chosen = _range(users, "--users"), _range(items, "--items") if items else None
        requests = _requests(url, api_key_file, users=asked, items=chosen, candidates=candidates)
    except (BenchError, OSError) as error:
        _stop(str(error))
    promise = Promise(slo_s=slo_ms / 1e3, share=share, failed=failed)
    ramp = Ramp(start_rate=start_rate, factor=step, seconds=seconds, most=steps)
    raise typer.Exit(_run(requests, promise, ramp, file=json))


def _requests(url: str, key_file: Path | None, *, users: range, items: range | None, candidates: int) -> "Requests":
    """The load, after the service said what serves and answered one request. Raises BenchError, OSError."""
    from service.bench.requests import Requests  # noqa: PLC0415  # the same
    from service.bench.target import BenchError, Target  # noqa: PLC0415  # the same

    if not url.startswith(("http://", "https://")):
        raise BenchError(f"URL: found {url}, allowed: http://HOST:PORT or https://HOST")
    key = None if key_file is None else _first_key(key_file)
    target = Target(url=url.rstrip("/"), key=key)
    requests = Requests(target=target, served=target.served(items), users=users, candidates=candidates)
    target.probe(requests.body(0))
    return requests


def _run(requests: "Requests", promise: "Promise", ramp: "Ramp", *, file: Path | None) -> int:
    """Steps, table, conclusion and JSON; the exit code."""
    import orjson  # noqa: PLC0415  # the same
    from rich.console import Console  # noqa: PLC0415  # the same

    from service.bench import report  # noqa: PLC0415  # the same
    from service.bench.steps import Bench  # noqa: PLC0415  # the same

    progress = Console(stderr=True, highlight=False)
    bench = Bench(requests.target.url, requests, candidates=requests.candidates, promise=promise)
    steps = bench.run(
        ramp,
        on_step=lambda step: progress.print(f"{step.rate:,.1f} requests/s: {step.broke or 'held'}", soft_wrap=True),
    )
    console = Console(highlight=False)
    console.print(report.table_of(steps, requests))
    console.print(report.conclusion(steps, promise), soft_wrap=True)
    if file is not None:
        file.write_bytes(orjson.dumps(report.as_json(steps, requests, promise), option=orjson.OPT_INDENT_2) + b"\n")
    return NONE_HELD if report.highest(steps) is None else FOUND


def _first_key(file: Path) -> str:
    """The first line that is no comment, as in a file of keys of the service. Raises BenchError, OSError."""
    from service.bench.target import BenchError  # noqa: PLC0415  # the same

    lines = (line.strip() for line in file.read_text(encoding="ascii", errors="replace").splitlines())
    key = next((line for line in lines if line and not line.startswith("#")), "")
    if not (key.isascii() and key.isprintable() and key):
        raise BenchError(f"--api-key-file: {file} holds no key in ASCII")
    return key


def _range(given: str, flag: str) -> range:
    """FIRST:LAST, both included. Raises BenchError."""
    from service.bench.target import BenchError  # noqa: PLC0415  # the same

    found = _RANGE.fullmatch(given)
    if not found or int(found[1]) > int(found[2]):
        raise BenchError(f"{flag}: found {given}, allowed: FIRST:LAST, such as 1:10000")
    return range(int(found[1]), int(found[2]) + 1)


def _stop(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)
    raise typer.Exit(WRONG)
