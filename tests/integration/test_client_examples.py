"""The clients in examples/ against a real service: they rank in time, fall back, and report."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.client import Scorer, open_http
from tests.integration.service_process import free_port, metric, serving
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle
from tests.programs import program

EXAMPLES = Path(__file__).parents[2] / "examples"
ITEMS = [100, 117, 104, 111]
PATIENT = {"max_deadline_ms": 20_000, "queue_ms": 20_000}


class Refusing(httpx.AsyncHTTPTransport):
    """The network, which answers the first request as a full service does."""

    asked = 0

    async def handle_async_request(self, request):
        """429, then whatever the service says."""
        self.asked += 1
        if self.asked == 1:
            return httpx.Response(429, headers={"Retry-After": "1"}, request=request)
        return await super().handle_async_request(request)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[str]:
    """The real service as a process: its URL."""
    with serving(bundle, "memory://", **PATIENT) as (_, url):
        yield url


@pytest.fixture(scope="module")
def service_without_store(bundle) -> Iterator[str]:
    """The same with a Redis that is not there."""
    with serving(bundle, f"redis://127.0.0.1:{free_port()}/0", **PATIENT) as (_, url):
        yield url


def test_the_python_client_ranks_and_reports(service):
    """As a command: the order is the one of the scores, and the click and the impressions are counted."""
    arguments = [service, "--deadline-s=20", "--user=3", "--click=117", *map(str, ITEMS)]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "client.py", *arguments], capture_output=True, text=True, check=True
    )
    first, *ranked = done.stdout.splitlines()
    scores = [float(line.split()[1]) for line in ranked]

    assert first == "degraded: none"
    assert sorted(int(line.split()[0]) for line in ranked) == sorted(ITEMS)
    assert scores == sorted(scores, reverse=True)
    assert metric(service, "ctr_events_total", outcome="accepted") == 1


def test_the_curl_client_scores_and_reports(service):
    """Three answers, one to a line: the scores, the event and the feedback, each accepted."""
    program("curl")
    command = ["env", "DEADLINE_MS=20000", EXAMPLES / "client.sh", service, "4", *map(str, ITEMS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scored, event, feedback = (json.loads(line) for line in done.stdout.splitlines())

    assert [score["item_id"] for score in scored["scores"]] == ITEMS
    assert (event["accepted"], event["rejected"]) == (1, [])
    assert (feedback["impressions"], feedback["rejected"]) == (1, [])


def test_the_curl_client_falls_back(service):
    """Without a service it prints the order given and ends well."""
    program("curl")
    command = [EXAMPLES / "client.sh", f"http://127.0.0.1:{free_port()}", "4", "7", "8"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(": ")[1] == "7,8\n"


@pytest.mark.anyio
async def test_nobody_there_means_the_order_given():
    """A refused connection is no error of the page: the caller's order, and nothing to report."""
    async with open_http(f"http://127.0.0.1:{free_port()}") as http:
        ranking = await Scorer(http, deadline_s=5).rank(1, ITEMS)
        await Scorer(http).report(ranking, 1, shown=ranking.items, clicked=[])
    assert (ranking.items, ranking.degraded, ranking.pctr) == (ITEMS, "unanswered", {})


@pytest.mark.anyio
@pytest.mark.parametrize(("accepted", "scored"), [(("none", "history"), True), (("none",), False)])
async def test_a_degraded_answer_counts_where_it_is_accepted(service_without_store, accepted, scored):
    """Scores without a history are the order, or not, as the caller chooses."""
    async with open_http(service_without_store) as http:
        ranking = await Scorer(http, deadline_s=20, accepted=accepted).rank(1, ITEMS)
    assert ranking.degraded == "history"
    assert bool(ranking.pctr) == scored
    assert (ranking.items == ITEMS) == (not scored)


@pytest.mark.anyio
async def test_a_request_that_is_wrong_is_told(service):
    """A 4xx other than 429 is a mistake of the caller, which no fallback hides."""
    async with open_http(service) as http:
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            await Scorer(http, deadline_s=20).rank(1, [])


@pytest.mark.anyio
@pytest.mark.parametrize(("deadline_s", "asked", "degraded"), [(30, 2, "none"), (0.9, 1, "unanswered")])
async def test_a_refusal_is_waited_for_where_there_is_time(service, deadline_s, asked, degraded):
    """A 429 with Retry-After: 1 is followed by another try, or, with less than a second left, by the order given."""
    refusing = Refusing()
    async with httpx.AsyncClient(transport=refusing, base_url=service) as http:
        ranking = await Scorer(http, deadline_s=deadline_s).rank(1, ITEMS)
    assert (refusing.asked, ranking.degraded) == (asked, degraded)
