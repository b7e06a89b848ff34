"""Traces reach a collector as spans per phase, follow the caller's decision, and cost nothing where they are off."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.app import create_app
from service.config import Settings, SettingsError
from tests.integration.service_process import free_port, score, serving

BODY = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 101}], "request_id": "r-1"}
PHASES = ["parse", "store", "encode", "queue", "compute", "render"]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OFF = """
import sys
from fastapi.testclient import TestClient
from service.app import create_app
from service.config import Settings

with TestClient(create_app(Settings(bundle=sys.argv[1], store="memory://"))) as client:
    while client.get("/readyz").status_code != 200:
        pass
    answer = client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})
    assert answer.status_code == 200 and "traceresponse" not in answer.headers
loaded = [n for n in sys.modules if n.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter", "service.otlp"))]
print(loaded)
"""


@dataclass
class Collector:
    """An OTLP receiver: what arrived, decoded."""

    url: str = ""
    paths: list[str] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def spans(self) -> dict[str, Span]:
        """All spans by name; each name came once."""
        spans = [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
        assert len({span.name for span in spans}) == len(spans)
        return {span.name: span for span in spans}

    @property
    def resource(self) -> dict[str, str]:
        """Who sent them."""
        return {a.key: a.value.string_value for a in self.requests[0].resource_spans[0].resource.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a free port, which takes everything."""
    found = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            found.paths.append(self.path)
            found.requests.append(ExportTraceServiceRequest.FromString(raw))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server, running(server):
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """The server in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()


def attributes(span: Span) -> dict[str, object]:
    """Text or number by name."""
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.mark.anyio
async def test_a_sampled_request_is_a_span_with_its_phases(serve, collector):
    """Below the caller's span: one of the request, and below that one per phase, in order and inside of it."""
    log = io.BytesIO()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"}
    async with serve(log=log, otlp_endpoint=collector.url, trace_percent=0) as client:
        answer = await client.post("/score", json=BODY, headers=headers)
        await client.get("/readyz", headers=headers)
    spans = collector.spans
    root = spans.pop("POST /score")

    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resource["service.name"] == "ctr-scorer"
    assert (root.trace_id.hex(), root.parent_span_id.hex(), root.trace_state) == (TRACE, PARENT, "vendor=x")
    assert root.kind == Span.SpanKind.SPAN_KIND_SERVER
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{root.span_id.hex()}-01"
    assert attributes(root) == {
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
        "ctr.request_id": "r-1",
        "ctr.candidates": 2,
        "ctr.degraded": "none",
        "ctr.bundle_version": "v1",
    }
    assert sorted(spans, key=lambda name: spans[name].start_time_unix_nano) == PHASES
    assert {(s.trace_id.hex(), s.parent_span_id) for s in spans.values()} == {(TRACE, root.span_id)}
    moments = [root.start_time_unix_nano]
    moments += [t for name in PHASES for t in (spans[name].start_time_unix_nano, spans[name].end_time_unix_nano)]
    assert sorted(moments) == moments
    assert moments[-1] <= root.end_time_unix_nano <= time.time_ns()
    for name, milliseconds in answer.json()["timings_ms"].items():
        if name != "total":
            length = spans[name].end_time_unix_nano - spans[name].start_time_unix_nano
            assert length / 1e6 == pytest.approx(milliseconds, abs=0.002)
    lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
    assert [line.get("trace_id") for line in lines if line["event"] == "access"][-2:] == [TRACE, None]


@pytest.mark.anyio
@pytest.mark.parametrize(("flags", "percent"), [("00", 100), (None, 0)])
async def test_a_request_that_is_not_sampled_sends_nothing(serve, collector, flags, percent):
    """The caller's "no" holds against our share, and a share of 0 leaves requests without a caller's word alone."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"} if flags else {}
    async with serve(otlp_endpoint=collector.url, trace_percent=percent) as client:
        answer = await client.post("/score", json=BODY, headers=headers)

    assert answer.status_code == 200
    assert answer.headers["traceresponse"].endswith("-00")
    assert collector.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize("traceparent", [None, "00-zz-1-01"])
async def test_without_a_parent_our_share_decides(serve, collector, traceparent):
    """A missing or unreadable `traceparent` makes a trace of its own; refusals are named, and are no errors of ours."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    async with serve(otlp_endpoint=f"{collector.url}/v1/traces/", trace_percent=100) as client:
        answer = await client.post("/score", content=b"{", headers=headers)
    (root,) = collector.spans.values()

    assert (answer.status_code, root.parent_span_id) == (422, b"")
    assert attributes(root)["error.type"] == "invalid_request"
    assert root.status.code == Status.StatusCode.STATUS_CODE_UNSET


@pytest.mark.anyio
async def test_what_we_could_not_answer_is_an_error(serve, collector, tmp_path):
    """A 503 marks its span."""
    async with serve(otlp_endpoint=collector.url, trace_percent=100, bundle=str(tmp_path)) as client:
        answer = await client.post("/score", json=BODY)
    (root,) = collector.spans.values()

    assert (answer.status_code, attributes(root)["error.type"]) == (503, "not_ready")
    assert root.status.code == Status.StatusCode.STATUS_CODE_ERROR


@pytest.mark.anyio
async def test_a_collector_that_is_away_costs_no_request(serve):
    """Requests are answered, and the end waits for what cannot be sent for a few seconds at most."""
    async with serve(otlp_endpoint=f"http://127.0.0.1:{free_port()}", trace_percent=100) as client:
        statuses = {(await client.post("/score", json=BODY)).status_code for _ in range(5)}
        began = time.monotonic()

    assert statuses == {200}
    assert time.monotonic() - began < 10


def test_the_process_sends_what_waits_before_it_ends(bundle_path, redis_url, collector):
    """After SIGTERM the collector has the spans of the last requests; Redis was asked within the phase `store`."""
    with serving(bundle_path, redis_url, otlp_endpoint=collector.url, trace_percent=100) as (_, url):
        answer = score(url)

    assert answer.status == 200
    assert collector.spans.keys() == {"POST /score", *PHASES}


def test_off_loads_nothing(bundle_path):
    """Without an endpoint, neither the SDK's tracing nor its exporter nor our file for them is imported."""
    command = [sys.executable, "-W", "ignore", "-c", OFF, str(bundle_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr


def test_a_missing_library_is_named(monkeypatch):
    """Without the extra the setting is refused with what to install."""
    monkeypatch.delitem(sys.modules, "service.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)  # as if not there
    with pytest.raises(SettingsError, match=r"CTR_OTLP_ENDPOINT: needs ctr-scorer\[tracing\]"):
        create_app(Settings(store="memory://", otlp_endpoint="http://127.0.0.1:1"))
