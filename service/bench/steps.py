"""Steps the rate up until the promise breaks.

Each step is an open loop at one rate. Latency counts from the intended time of sending, so neither a service that
stalls nor a generator that falls behind makes a step look better than it was.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.bench.answers import KINDS, Answer, Kind, percentile_ms
from service.bench.poisson import Arrivals, Observer, run_poisson

WARM_S = 1.0  # at the first rate, not counted: it opens connections
FEW = {50.0: 1, 99.0: 100, 99.9: 1000}  # a percentile of fewer answers is not one
BEHIND_SHARE = 0.5  # of the SLO: a generator that is later than this at its p99 measures itself
_HISTORY = re.compile(rb'"history_len":(\d+)')


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What must hold: `share` of the scored answers within `slo_s`, and at most `failed` of all requests not scored."""

    slo_s: float
    share: float
    failed: float


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Requests per second of the first step, what each next one multiplies it by, seconds of a step, most steps."""

    start_rate: float
    factor: float
    seconds: float
    most: int

    def rate(self, number: int) -> float:
        """Of that step, counted from 0."""
        return self.start_rate * self.factor**number


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rate and what came of it. Percentiles are of scored answers, in ms; None where there were too few."""

    rate: float
    seconds: float
    candidates: int
    counts: Mapping[Kind, int]
    within: float  # share of the scored answers that came within the SLO
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    behind_ms: float  # the generator's own lateness, p99
    history: float | None  # behaviors per scored request, mean
    broke: str = ""  # what of the promise did not hold

    @property
    def sent(self) -> int:
        """Requests of this step."""
        return sum(self.counts.values())

    @property
    def requests_per_s(self) -> float:
        """Requests that were scored in full, per second."""
        return self.counts["ok"] / self.seconds

    @property
    def candidates_per_s(self) -> float:
        """Candidates of those."""
        return self.requests_per_s * self.candidates


class Bench:
    """Steps through a ramp."""

    def __init__(self, url: str, request: Callable[[int], bytes], *, candidates: int, promise: Promise) -> None:
        self._url = url
        self._request = request
        self._candidates = candidates
        self._promise = promise
        self._first = 0  # number of the next request, so that no step repeats another's

    def run(self, ramp: Ramp, *, on_step: Callable[[Step], None]) -> list[Step]:
        """Every step up to the first that broke, which is the last; `on_step` sees each as it ends."""
        self._load(Arrivals(rate=ramp.start_rate, seconds=WARM_S, first=self._first), observe=None)
        steps: list[Step] = []
        while len(steps) < ramp.most and not (steps and steps[-1].broke):
            steps.append(self._step(ramp, len(steps)))
            on_step(steps[-1])
        return steps

    def _step(self, ramp: Ramp, number: int) -> Step:
        lengths: list[int] = []

        def observe(_: int, status: int, body: bytes) -> None:
            if status == 200 and (found := _HISTORY.search(body)):
                lengths.append(int(found[1]))

        arrivals = Arrivals(rate=ramp.rate(number), seconds=ramp.seconds, seed=number + 1, first=self._first)
        answers = self._load(arrivals, observe=observe)
        return judged(answers, arrivals, candidates=self._candidates, promise=self._promise, history=_mean(lengths))

    def _load(self, arrivals: Arrivals, *, observe: Observer | None) -> list[Answer]:
        answers = run_poisson(self._url, self._request, arrivals=arrivals, observe=observe)
        self._first += len(answers)
        return answers


def judged(
    answers: list[Answer], arrivals: Arrivals, *, candidates: int, promise: Promise, history: float | None = None
) -> Step:
    """What a step's answers say, and whether the promise held."""
    counts = {kind: sum(a.kind == kind for a in answers) for kind in KINDS}
    scored = [a.latency_s for a in answers if a.kind == "ok"]
    within = sum(s <= promise.slo_s for s in scored) / len(scored) if scored else 0.0
    behind_ms = percentile_ms([a.behind_s for a in answers], 99) or 0.0
    p50, p99, p999 = (percentile_ms(scored, q) if len(scored) >= few else None for q, few in FEW.items())
    return Step(
        rate=arrivals.rate,
        seconds=arrivals.seconds,
        candidates=candidates,
        counts=counts,
        within=within,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        behind_ms=behind_ms,
        history=history,
        broke=_broke(counts, within, behind_ms=behind_ms, promise=promise),
    )


def _broke(counts: Mapping[Kind, int], within: float, *, behind_ms: float, promise: Promise) -> str:
    """Why the promise did not hold; empty: it did."""
    sent, failed = sum(counts.values()), sum(n for kind, n in counts.items() if kind != "ok")
    if not sent:
        return "no request was sent: the rate is too low for these seconds"
    reasons = []
    if failed > promise.failed * sent:
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n and kind != "ok")
        reasons.append(f"{failed / sent:.2%} of the requests were not scored ({kinds}), allowed {promise.failed:.2%}")
    if counts["ok"] and within < promise.share:
        reasons.append(f"{within:.2%} within {promise.slo_s * 1e3:g} ms, promised {promise.share:.2%}")
    if reasons and behind_ms > BEHIND_SHARE * promise.slo_s * 1e3:
        reasons.append(f"but this machine sent up to {behind_ms:.0f} ms late (p99), so it may be the generator's limit")
    return "; ".join(reasons)


def _mean(values: list[int]) -> float | None:
    return float(np.mean(values)) if values else None
