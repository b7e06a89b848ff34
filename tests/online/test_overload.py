"""Under pressure: refuse early, keep deadlines, drop the work of callers who have gone, own up to defects."""

import asyncio
import dataclasses
import io
import threading
import time

import orjson
import pytest

from model.bundle.folder import GOLDEN, read_bundle, to_npz, write_bundle
from service.runtimes.base import RuntimeFailure
from service.runtimes.fake import FakeRuntime

pytestmark = pytest.mark.anyio

GOOD = {"user_id": 1, "candidates": {"item_id": list(range(100, 110))}}


class Switchable(FakeRuntime):
    """Open and healthy while the bundle is loaded; tests then close the gate or set a failure."""

    def __init__(self) -> None:
        super().__init__(gate=threading.Event())
        self.gate.set()


@pytest.fixture(scope="module")
def fake_bundle(bundle_path, tmp_path_factory):
    """The tiny bundle with the fake runtime's scores as golden scores."""
    bundle, runtime = read_bundle(bundle_path), FakeRuntime()
    names = [spec.name for spec in bundle.manifest.user_half.inputs]
    items = {name: tensor for name, tensor in bundle.golden.items() if name.startswith("item_")}
    scores = runtime.score(runtime.encode_user({name: bundle.golden[name] for name in names}), items)
    golden = to_npz({**bundle.golden, "pctr": scores["pctr"]})
    manifest = dataclasses.replace(bundle.manifest, version="fake")
    return str(write_bundle(tmp_path_factory.mktemp("fake"), manifest, {**bundle.files, GOLDEN: golden}))


@pytest.fixture
def runtime():
    """What the service computes with; opened at the end, so that no thread stays behind."""
    runtime = Switchable()
    yield runtime
    runtime.gate.set()


@pytest.fixture
def serve_fake(serve, fake_bundle, runtime):
    """`serve` with the switchable runtime."""

    def serve_(**settings):
        return serve(bundle=fake_bundle, runtimes={"onnx": lambda _: runtime}, **settings)

    return serve_


async def metric(client, line: str) -> bool:
    """Whether /metrics has this line."""
    return line in (await client.get("/metrics")).text.splitlines()


async def ready(client) -> bool:
    """Whether /readyz says so."""
    return (await client.get("/readyz")).status_code == 200


async def until(condition) -> None:
    """Wait until `await condition()` holds."""
    async with asyncio.timeout(5):
        while not await condition():  # noqa: ASYNC110  # asked as a monitor asks
            await asyncio.sleep(0.005)


async def test_beyond_the_row_budget_requests_are_refused_at_once(serve_fake, runtime):
    """With 20 rows of 25 taken a third request of 10 is a 429 with Retry-After; afterwards there is room again."""
    async with serve_fake(queue_rows=25, max_candidates=25, deadline_ms=5000) as client:
        runtime.gate.clear()
        held = [asyncio.create_task(client.post("/score", json=GOOD)) for _ in range(2)]
        await until(lambda: metric(client, "ctr_rows 20.0"))
        refused, live = await client.post("/score", json=GOOD), await client.get("/livez")
        runtime.gate.set()
        answers = await asyncio.gather(*held)
        again = await client.post("/score", json=GOOD)

    assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert live.status_code == 200
    assert [answer.status_code for answer in [*answers, again]] == [200, 200, 200]


async def test_a_deadline_covers_queue_and_compute(serve_fake, runtime):
    """Computing or waiting past X-Deadline-Ms is a 504, soon after; what still waited is not computed."""
    async with serve_fake(threads=1, deadline_ms=5000) as client:
        loaded = runtime.scored
        runtime.gate.clear()
        first = asyncio.create_task(client.post("/score", json=GOOD))
        await until(lambda: metric(client, "ctr_rows 10.0"))
        began = time.monotonic()
        late = await client.post("/score", json=GOOD, headers={"X-Deadline-Ms": "50"})
        took = time.monotonic() - began
        runtime.gate.set()
        answered = await first
        await client.post("/score", json=GOOD)

    assert (late.status_code, late.json()["error_type"]) == (504, "deadline_exceeded")
    assert 0.05 <= took < 2
    assert answered.status_code == 200
    assert runtime.scored - loaded == 2  # the first and the last


async def test_a_longer_deadline_than_allowed_is_cut(serve_fake, runtime):
    """X-Deadline-Ms above the maximum counts as the maximum."""
    async with serve_fake(max_deadline_ms=50) as client:
        runtime.gate.clear()
        late = await client.post("/score", json=GOOD, headers={"X-Deadline-Ms": "1e9"})
        runtime.gate.set()

    assert late.status_code == 504


async def test_a_body_that_does_not_arrive_ends_at_the_deadline(serve):
    """A caller who stops sending in the middle does not hold anything for longer than the deadline."""

    async def stalls():
        yield b'{"user_id": 1, '
        await asyncio.sleep(10)

    async with serve(deadline_ms=50) as client:
        answer = await client.post("/score", content=stalls())

    assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")


async def test_no_other_body_is_waited_for_without_end(serve):
    """Events within their own limit, feedback and /admin within 5 s."""

    async def stalls():
        yield b"{"
        await asyncio.sleep(30)

    key = "k" * 16
    async with serve(events_timeout_ms=50, admin_key=key) as client:
        began, headers = time.monotonic(), {"Authorization": f"Bearer {key}"}
        paths = ("/events", "/feedback", "/admin/promote")
        answers = await asyncio.gather(*(client.post(path, content=stalls(), headers=headers) for path in paths))
        took = time.monotonic() - began

    assert [(answer.status_code, answer.json()["error_type"]) for answer in answers] == [(504, "deadline_exceeded")] * 3
    assert took < 25


async def test_a_failing_net_is_a_500_without_its_stack(serve_fake, runtime):
    """The caller sees one sentence and a request id; the log has the cause and the stack under that id."""
    log = io.BytesIO()
    async with serve_fake(log=log) as client:
        runtime.failure = RuntimeFailure("secret detail of the net")
        answer = await client.post("/score", json=GOOD)
        runtime.failure = None
        again = await client.post("/score", json=GOOD)

    logged = [line for line in map(orjson.loads, log.getvalue().splitlines()) if line["event"] == "request failed"]
    assert (answer.status_code, answer.json()["error_type"]) == (500, "compute_failed")
    assert "secret" not in answer.text
    assert "secret detail of the net" in logged[0]["exception"]
    assert logged[0]["request_id"] == answer.json()["request_id"]
    assert again.status_code == 200


async def test_a_defect_of_ours_is_a_500_in_the_same_shape(serve_fake, runtime):
    """An exception that nobody expected is logged with its stack and answered without it."""
    log = io.BytesIO()
    async with serve_fake(log=log) as client:
        runtime.failure = KeyError("a defect")
        answer = await client.post("/score", json=GOOD)

    logged = [line for line in map(orjson.loads, log.getvalue().splitlines()) if line["event"] == "unexpected error"]
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_error")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == logged[0]["request_id"]
    assert "defect" not in answer.text
    assert "KeyError: 'a defect'" in logged[0]["exception"]


async def dead(client) -> bool:
    """Only a restart helps."""
    return (await client.get("/livez")).status_code == 503


# The death itself is what this test is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_crashed_thread_is_replaced_once(serve_fake, runtime):
    """A compute thread that crashes fails its request and is replaced; after a second crash only a restart helps."""
    async with serve_fake() as client:
        runtime.failure = SystemExit()
        struck = await client.post("/score", json=GOOD)
        runtime.failure = None
        await until(lambda: ready(client))
        replaced = await client.post("/score", json=GOOD)
        runtime.failure = SystemExit()
        again = await client.post("/score", json=GOOD)
        runtime.failure = None
        unready = await client.get("/readyz")
        await until(lambda: dead(client))  # the request failed before the thread was given up
        after = await client.post("/score", json=GOOD)
        counted = await metric(client, "ctr_thread_crashes_total 2.0")

    assert [answer.status_code for answer in (struck, replaced, again, unready, after)] == [503, 200, 503, 503, 503]
    assert unready.json()["error"] == "a compute thread died"
    assert counted


async def test_the_work_of_a_caller_who_has_gone_is_dropped(serve_fake, runtime):
    """A caller who disconnects while waiting frees its rows at once and is not computed."""
    async with serve_fake(threads=1, deadline_ms=5000) as client:
        loaded = runtime.scored
        runtime.gate.clear()
        first = asyncio.create_task(client.post("/score", json=GOOD))
        await until(lambda: metric(client, "ctr_rows 10.0"))
        app = client._transport.app
        status = await disconnect(app, orjson.dumps(GOOD))
        freed = await metric(client, "ctr_rows 10.0")
        runtime.gate.set()
        await first
        await client.post("/score", json=GOOD)
        counted = await metric(client, 'ctr_requests_total{code="499",route="/score"} 1.0')

    assert freed
    assert counted
    assert status == 499
    assert runtime.scored - loaded == 2  # the first and the last


async def test_a_caller_who_leaves_while_sending_is_counted_as_gone(serve):
    """Half a body and a hang-up is the caller's doing, not an error of ours."""
    async with serve() as client:
        status = await disconnect(client._transport.app, b'{"user_id": 1, ', more_body=True)
        counted = await metric(client, 'ctr_refused_total{reason="client_gone"} 1.0')

    assert status == 499
    assert counted


async def disconnect(app, body: bytes, *, more_body: bool = False) -> int:
    """POST /score by plain ASGI, and hang up after `body` was read. Returns the status sent into the void."""
    messages = [{"type": "http.request", "body": body, "more_body": more_body}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/score",
        "raw_path": b"/score",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return sent[0]["status"]


async def test_ending_the_request_from_outside_is_not_a_caller_who_left(serve_fake, runtime):
    """A task that is cancelled by somebody else stays cancelled; rows that run are free when their thread is done."""
    async with serve_fake(deadline_ms=5000) as client:
        runtime.gate.clear()
        task = asyncio.create_task(client.post("/score", json=GOOD))
        await until(lambda: metric(client, "ctr_rows 10.0"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held = await metric(client, "ctr_rows 10.0")
        runtime.gate.set()
        await until(lambda: metric(client, "ctr_rows 0.0"))

    assert held
