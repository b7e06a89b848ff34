"""The result of a bench, for people and for programs."""

import dataclasses
from collections.abc import Sequence

from rich.table import Table

from service.bench.requests import Requests
from service.bench.steps import Promise, Step


def highest(steps: Sequence[Step]) -> Step | None:
    """The last step that held; None if the first one broke."""
    return next((step for step in reversed(steps) if not step.broke), None)


def table_of(steps: Sequence[Step], requests: Requests) -> Table:
    """Every step in a row."""
    served = requests.served
    title = f"{requests.target.url}, bundle {served.name} {served.version}, {requests.candidates} candidates a request"
    names = ("asked/s", "scored/s", "candidates/s", "p50 ms", "p99 ms", "p99.9 ms", "within SLO", "refused", "errors")
    table = Table(title=title)
    for name in (*names, "history", "held"):
        table.add_column(name, justify="right")
    for step in steps:
        table.add_row(*_cells(step))
    return table


def conclusion(steps: Sequence[Step], promise: Promise) -> str:
    """One or two sentences: the highest rate that held, and what ended the run."""
    held, last = highest(steps), steps[-1]
    ended = f"At {last.rate:,.1f} requests/s: {last.broke}." if last.broke else "No step broke: start higher."
    if held is None:
        return f"No rate held. {ended}"
    what = f"{held.requests_per_s:,.1f} requests/s, {held.candidates_per_s:,.0f} candidates/s"
    return f"Held: {what} with {held.within:.2%} within {promise.slo_s * 1e3:g} ms. {ended}"


def as_json(steps: Sequence[Step], requests: Requests, promise: Promise) -> dict[str, object]:
    """All figures; `held` is the highest step that held or null."""
    served, held = requests.served, highest(steps)
    return {
        "url": requests.target.url,
        "bundle": f"{served.name} {served.version}",
        "users": len(requests.users),
        "items": len(served.items),
        "candidates": requests.candidates,
        "promise": dataclasses.asdict(promise),
        "held": held and _figures(held),
        "ended": steps[-1].broke,
        "steps": [_figures(step) for step in steps],
    }


def _figures(step: Step) -> dict[str, object]:
    per_s = {"requests_per_s": step.requests_per_s, "candidates_per_s": step.candidates_per_s}
    return {
        **dataclasses.asdict(step),
        **per_s,
        "sent": step.sent,
        "refused": step.counts["refused"],
        "errors": _errors(step),
    }


def _errors(step: Step) -> int:
    """Everything that was neither scored in full nor refused."""
    return step.sent - step.counts["ok"] - step.counts["refused"]


def _cells(step: Step) -> list[str]:
    times = (step.p50_ms, step.p99_ms, step.p999_ms)
    return [
        f"{step.rate:,.1f}",
        f"{step.requests_per_s:,.1f}",
        f"{step.candidates_per_s:,.0f}",
        *("-" if ms is None else f"{ms:,.1f}" for ms in times),
        f"{step.within:.2%}",
        f"{step.counts['refused']:,}",
        f"{_errors(step):,}",
        "-" if step.history is None else f"{step.history:.0f}",
        "no" if step.broke else "yes",
    ]
