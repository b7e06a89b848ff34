"""Requests without end in a thread of their own, at a steady rate, and what came of them."""

import re
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from service.bench.answers import Answer
from service.bench.poisson import Arrivals, run_poisson
from service.bench.requests import Requests
from service.bench.target import Target

RATE, CANDIDATES, USERS = 20.0, 20, range(1, 201)
_ROUND_S = 2.0  # an open loop of so many seconds after the other
_VERSION = re.compile(rb'"bundle_version":"([^"]+)"')
SCORED = ("ok", "degraded")


def requests(url: str) -> Requests:
    """Users of the small log with candidates from the bundle's catalogue."""
    target = Target(url=url)
    return Requests(target=target, served=target.served(None), users=USERS, candidates=CANDIDATES)


class Load:
    """Runs inside the `with` block; its counts are complete after it."""

    def __init__(self, wanted: Requests) -> None:
        self.kinds: Counter[str] = Counter()  # service.bench.answers.Kind; a 503 counts as `not_ready`
        self.versions: Counter[str] = Counter()  # of the bundles that answered
        self._requests = wanted
        self._statuses: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failed(self) -> int:
        """Requests without scores; degraded scores are scores."""
        return sum(count for kind, count in self.kinds.items() if kind not in SCORED)

    def _run(self) -> None:
        first = 0
        while not self._stop.is_set():
            arrivals = Arrivals(rate=RATE, seconds=_ROUND_S, seed=first, first=first)
            answers = run_poisson(self._requests.target.url, self._requests, arrivals=arrivals, observe=self._observe)
            self.kinds.update(self._kind(answer) for answer in answers)
            first += len(answers)

    def _observe(self, number: int, status: int, body: bytes) -> None:
        self._statuses[number] = status
        if found := _VERSION.search(body):
            self.versions[found[1].decode()] += 1

    def _kind(self, answer: Answer) -> str:
        return "not_ready" if self._statuses.get(answer.index) == 503 else answer.kind


def steady(wanted: Requests, *, seconds: float) -> Load:
    """A load that ran for so long, with nothing happening."""
    with Load(wanted) as load:
        time.sleep(seconds)
    return load
