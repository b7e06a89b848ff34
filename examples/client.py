"""How to call CTR Scorer from Python: rank candidates in time, then say what was shown and clicked. Needs httpx alone.

python examples/client.py http://127.0.0.1:8080 --user 17 --click 42 42 300 114
"""

import argparse
import asyncio
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # of JSON

import httpx

Json = dict[str, Any]
_LATER = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)  # with Retry-After


@dataclass(frozen=True)
class Ranking:
    """Items, the best first. `degraded` is the service's word, or `unanswered`: then the order is the caller's own."""

    request_id: str
    items: list[int]
    degraded: str = "unanswered"
    pctr: Mapping[int, float] = field(default_factory=dict)
    bundle_version: str = ""


class Scorer:
    """One per program: it keeps its connections, for which a request has no time to spare."""

    def __init__(
        self, http: httpx.AsyncClient, *, deadline_s: float = 0.2, accepted: Collection[str] = ("none", "history")
    ) -> None:
        """`accepted` are the values of `degraded` whose order is better than the caller's own."""
        self._http = http
        self._deadline_s = deadline_s
        self._accepted = accepted

    async def rank(self, user_id: int, candidates: Sequence[int], **more: object) -> Ranking:
        """The candidates, the best first, within the deadline; in the order given if there is no better one by then.

        `more` are other fields of the request, such as `context`. Raises httpx.HTTPStatusError if the request is wrong.
        """
        own = Ranking(uuid.uuid4().hex, list(candidates))
        body = {"request_id": own.request_id, "user_id": user_id, "candidates": {"item_id": own.items}, **more}
        try:
            answer = await self._post("/score", body, within_s=self._deadline_s)
        except (TimeoutError, httpx.TransportError):
            return own
        except httpx.HTTPStatusError as error:
            if error.response.status_code in _LATER or error.response.is_server_error:
                return own
            raise
        if answer["degraded"] not in self._accepted:
            return Ranking(own.request_id, own.items, degraded=answer["degraded"])
        best = sorted(answer["scores"], key=lambda score: score["rank"])
        return Ranking(
            own.request_id,
            [score["item_id"] for score in best],
            degraded=answer["degraded"],
            pctr={score["item_id"]: score["pctr"] for score in best},
            bundle_version=answer["bundle_version"],
        )

    async def report(self, ranking: Ranking, user_id: int, *, shown: Sequence[int], clicked: Collection[int]) -> None:
        """Send clicks as events and what was shown as feedback: after the page, once the clicks are known.

        Both may be sent again. Raises TimeoutError or httpx.HTTPError if that did not help.
        """
        now = int(time.time() * 1000)
        click = {"user_id": user_id, "action": "click", "time": now}
        events = [{"event_id": f"{ranking.request_id}-{item}", "item_id": item, **click} for item in clicked]
        if events:
            await self._post("/events", {"events": events}, within_s=10)
        scored = [item for item in shown if item in ranking.pctr]
        if scored:  # of an order that was not the service's there is nothing to learn
            impressions = [{"item_id": i, "pctr": ranking.pctr[i], "clicked": i in clicked} for i in scored]
            facts = {"request_id": ranking.request_id, "bundle_version": ranking.bundle_version}
            await self._post("/feedback", {**facts, "impressions": impressions}, within_s=10)

    async def _post(self, path: str, body: Mapping[str, object], *, within_s: float, attempts: int = 3) -> Json:
        """The answer. Refusals and broken connections are tried again where the time allows what Retry-After asks."""
        ends = time.monotonic() + within_s
        async with asyncio.timeout(within_s):
            for left in reversed(range(attempts)):
                deadline = {"X-Deadline-Ms": str(max(1, int(1000 * (ends - time.monotonic()))))}
                try:
                    answer = await self._http.post(path, json=body, headers=deadline)
                except httpx.TransportError:  # as when a process ends; the next connection may lead to another
                    if not left:
                        raise
                    continue
                wait_s = _retry_after(answer) if answer.status_code in _LATER else 0.0
                if not wait_s or not left or time.monotonic() + wait_s > ends:
                    found: Json = answer.raise_for_status().json()
                    return found
                await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the service asks to wait."""
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 1.0


def open_http(url: str, *, key: str | None = None) -> httpx.AsyncClient:
    """Connections to the service; `key` is an API key, where it asks for one."""
    return httpx.AsyncClient(base_url=url, timeout=10, headers={"Authorization": f"Bearer {key}"} if key else {})


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("items", nargs="+", type=int, help="candidates, in the order to show if there are no scores")
    parser.add_argument("--user", type=int, required=True)
    parser.add_argument("--click", type=int, action="append", default=[], help="an item to report as clicked")
    parser.add_argument("--deadline-s", type=float, default=0.2, help="longest wait for the scores")
    parser.add_argument("--key-file", type=Path, help="file with an API key")
    given = parser.parse_args()
    async with open_http(given.url, key=given.key_file and given.key_file.read_text().strip()) as http:
        scorer = Scorer(http, deadline_s=given.deadline_s)
        ranking = await scorer.rank(given.user, given.items)
        print(f"degraded: {ranking.degraded}")
        for item in ranking.items:
            print(item, ranking.pctr.get(item, "no score"))
        await scorer.report(ranking, given.user, shown=ranking.items, clicked=given.click)


if __name__ == "__main__":
    asyncio.run(_main())
