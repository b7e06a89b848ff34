"""`ctr-service bench`: what it says of a service that holds, refuses, stalls, or is not there."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.bench.answers import Answer, Kind
from service.bench.poisson import Arrivals
from service.bench.requests import Requests
from service.bench.steps import Bench, Promise, Ramp, judged
from service.bench.target import Served, Target
from service.cli import cli
from service.embedded import EmbeddedRedis
from tests.integration.service_process import free_port, serving
from tests.online.tiny_bundle import ITEMS, tiny_encoder, write_tiny_bundle

PATIENT = {"deadline_ms": 20_000, "max_deadline_ms": 20_000, "store_timeout_ms": 5000, "queue_ms": 20_000}
PROMISE = Promise(slo_s=0.1, share=0.99, failed=0.01)
ARRIVALS = Arrivals(rate=100, seconds=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[tuple[int, str]]:
    """A real service that refuses nothing here: its process id and URL."""
    with serving(bundle, "memory://", **PATIENT) as (process, url):
        yield process.pid, url


def run(*args: str):
    """The command, without CTR_ keys."""
    return CliRunner().invoke(cli, ["bench", *args])


def flags(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("--" + name.replace("_", "-"), str(value))]


def answers(count: int, *, kind: Kind = "ok", latency_s: float = 0.01, behind_s: float = 0.0) -> list[Answer]:
    return [Answer(index=i, intended_s=0, latency_s=latency_s, kind=kind, behind_s=behind_s) for i in range(count)]


def test_a_service_that_holds_is_measured(service, tmp_path):
    """Two steps hold: figures follow from the counts, users and items are the service's, and the file has them all."""
    file = tmp_path / "bench.json"
    options = flags(candidates=5, slo_ms=10_000, start_rate=20, step=2, seconds=1, steps=2, users="1:10", json=file)
    result = run(service[1], *options)
    found = json.loads(file.read_text())

    assert result.exit_code == 0, result.output
    assert [step["rate"] for step in found["steps"]] == [20, 40]
    for number, step in enumerate(found["steps"]):
        sent = len(Arrivals(rate=step["rate"], seconds=1, seed=number + 1).times())
        assert (step["sent"], step["counts"]["ok"], step["refused"], step["errors"]) == (sent, sent, 0, 0)
        assert step["candidates_per_s"] == 5 * step["requests_per_s"] == 5 * sent
        assert step["within"] == 1
        assert step["p50_ms"] > 0
        assert step["p999_ms"] is None  # of so few answers it would be the maximum
        assert step["history"] == 0  # nobody loaded any
    assert found["held"] == found["steps"][1]
    assert (found["bundle"], found["users"], found["items"], found["ended"]) == ("tiny v1", 10, len(ITEMS), "")
    assert "No step broke: start higher." in result.output


def test_a_service_that_refuses_is_reported_as_such(bundle, own_redis: EmbeddedRedis):
    """With a store that hangs and room for one request, nothing holds: exit code 1, and the refusals are counted."""
    tight = {"max_candidates": 5, "queue_rows": 5, "store_timeout_ms": 500, "deadline_ms": 5000, "store_failures": 0}
    with serving(bundle, own_redis.url, **tight) as (_, url):
        own_redis.pause()
        result = run(url, *flags(candidates=5, slo_ms=5000, start_rate=50, seconds=1))
        own_redis.resume()

    said = re.search(r"No rate held\. At 50\.0 requests/s: .* not scored \(.*?([0-9]+) refused", result.output)
    assert result.exit_code == 1
    assert said, result.output
    assert int(said[1]) > 10


def test_a_stall_counts_for_every_request_that_it_delayed(service):
    """A service that stands still for half a second of two breaks the promise for a tenth of the requests at least."""
    pid, url = service
    target = Target(url=url)
    requests = Requests(target=target, served=target.served(None), users=range(1, 11), candidates=5)
    first = len(Arrivals(rate=100, seconds=1).times())  # requests of the warm-up

    def request(number: int) -> bytes:
        if number == first + 50:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()
        return requests(number)

    ramp = Ramp(start_rate=100, factor=2, seconds=2, most=1)
    [step] = Bench(url, request, candidates=5, promise=PROMISE).run(ramp, on_step=lambda _: None)

    assert step.counts["ok"] == step.sent
    assert step.within < 0.9
    assert "promised 99.00%" in step.broke


def test_a_service_out_of_reach_is_one_line():
    """Nobody listens: exit code 2 and one line that names the URL."""
    url = f"http://127.0.0.1:{free_port()}"
    result = run(url)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"{url} is out of reach: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("", {"users": "9:1"}, "--users: found 9:1, allowed: FIRST:LAST"),
        ("", {"items": "all"}, "--items: found all, allowed: FIRST:LAST"),
        ("", {"candidates": 3000}, "/score answers 413: "),
        ("", {"api_key_file": "no/such/file"}, "no/such/file"),
        ("/livez", {}, "/livez/bundle answers 404: "),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_load(service, path, options, message):
    """Wrong ranges, requests that no load would make right, a URL that is another page: exit code 2 and one line."""
    result = run(service[1] + path, *flags(**options))

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "file:///etc/hostname"])
def test_only_http_is_asked(url):
    """A URL without its scheme, or with another, is named."""
    assert f"URL: found {url}" in run(url).stderr


def test_the_key_goes_with_every_request_and_into_no_text():
    """As Authorization: Bearer; the target's repr hides it."""
    target = Target(url="http://host:1/under", key="k" * 16)
    served = Served(name="n", version="v", item_key="movie_id", items=["a"])
    head, body = Requests(target=target, served=served, users=range(7, 8), candidates=2)(3).split(b"\r\n\r\n")

    assert head.startswith(b"POST /under/score HTTP/1.1\r\nHost: host:1\r\n")
    assert b"Authorization: Bearer " + b"k" * 16 in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"user_id": 7, "candidates": [{"movie_id": "a"}] * 2}
    assert "kkkk" not in repr(target)


def test_every_user_is_asked_for_before_one_comes_again():
    """A thousand requests for a thousand users name each once."""
    served = Served(name="n", version="v", item_key="item_id", items=[1])
    requests = Requests(target=Target(url="http://h"), served=served, users=range(1, 1001), candidates=1)

    assert {json.loads(requests.body(i))["user_id"] for i in range(1000)} == set(range(1, 1001))


@pytest.mark.parametrize(
    ("found", "broke"),
    [
        (answers(198) + answers(2, latency_s=0.2), ""),
        (answers(197) + answers(3, latency_s=0.2), "98.50% within 100 ms, promised 99.00%"),
        (answers(198) + answers(2, kind="refused"), ""),
        (
            answers(197) + answers(2, kind="refused") + answers(1, kind="degraded"),
            "1.50% of the requests were not scored (1 degraded, 2 refused), allowed 1.00%",
        ),
        (answers(3, kind="lost"), "100.00% of the requests were not scored (3 lost), allowed 1.00%"),
        (
            answers(200, latency_s=0.2, behind_s=0.15),
            "0.00% within 100 ms, promised 99.00%; but this machine sent up to",
        ),
        ([], "no request was sent"),
    ],
)
def test_a_step_breaks_at_its_bounds(found, broke):
    """The share of scored answers within the SLO, and that of requests not scored, each at its bound and beyond."""
    step = judged(found, ARRIVALS, candidates=10, promise=PROMISE)

    assert step.broke.startswith(broke)
    assert bool(step.broke) == bool(broke)
    assert step.candidates_per_s == 10 * sum(a.kind == "ok" for a in found) / 2
