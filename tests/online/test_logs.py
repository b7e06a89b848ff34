"""JSON lines: one per request, with phases and without contents; a log that fails costs nothing."""

import fcntl
import io
import logging
import os

import orjson
import pytest

from service.logs import DescriptorSink, SafeSink, json_log, redirect_stdlib
from service.runtimes.base import RuntimeFailure
from service.runtimes.onnx import OnnxRuntime
from service.stores.memory import MemoryStore


class BrokenPipe(io.RawIOBase):
    """A stream whose reader has gone."""

    def write(self, line) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def close(self) -> None:
        """Nothing to flush."""


def lines(sink: io.BytesIO) -> list[dict[str, object]]:
    """The events written so far."""
    return [orjson.loads(line) for line in sink.getvalue().splitlines()]


@pytest.mark.anyio
async def test_each_request_is_one_line(serve):
    """The access line says who, what, how long and how; it holds no candidate, history or user."""
    sink = io.BytesIO()
    async with serve(log=sink) as client:
        body = {"user_id": 424242, "candidates": [{"item_id": 100}, {"item_id": 101}], "request_id": "r-1"}
        await client.post("/score", json=body)
        await client.post("/score", content=b"{secret")
    access = [line for line in lines(sink) if line["event"] == "access" and line["route"] == "/score"]

    assert [line["status"] for line in access] == [200, 422]
    assert access[0].keys() >= {"time", "level", "request_id", "route", "status", "phases_ms", "candidates", "degraded"}
    assert (access[0]["request_id"], access[0]["candidates"], access[0]["degraded"]) == ("r-1", 2, "none")
    assert access[0]["bundle_version"] == "v1"
    assert access[0]["phases_ms"].keys() == {"parse", "store", "encode", "queue", "compute", "render", "total"}
    assert (access[1]["error_type"], access[1]["phases_ms"].keys()) == ("invalid_request", {"total"})
    assert b"424242" not in sink.getvalue()
    assert b"secret" not in sink.getvalue()


@pytest.mark.anyio
@pytest.mark.parametrize(("slow_ms", "level"), [(0, "info"), (0.001, "warning"), (60_000, "info")])
async def test_a_slow_request_is_a_warning(serve, slow_ms, level):
    """Above the threshold the access line is a warning and names the slowest phase; 0 means no threshold."""
    sink = io.BytesIO()
    async with serve(log=sink, slow_ms=slow_ms, log_level="info") as client:
        await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})
    (line,) = [line for line in lines(sink) if line.get("route") == "/score"]

    assert line["level"] == level
    assert ("slowest" in line) == (level == "warning")
    if "slowest" in line:
        phases = {**line["phases_ms"], "other": 0}
        total = phases.pop("total")
        phases["other"] = total - sum(phases.values())
        assert line["slowest"] == max(phases, key=phases.get)


@pytest.mark.anyio
async def test_every_line_of_a_request_has_its_id(serve, tmp_path):
    """The cause of a 500, and what a library logs meanwhile, carry the id of the body once it is read."""
    sink = io.BytesIO()

    class Broken(OnnxRuntime):
        def score(self, state, candidates):
            if asked:
                raise RuntimeFailure("broken")
            return super().score(state, candidates)

    class Chatty(MemoryStore):
        async def read(self, *args, **kwargs):
            json_log("info", sink=sink).info("a library speaks")
            return await super().read(*args, **kwargs)

    asked: list[bool] = []
    body = {"user_id": 1, "candidates": [{"item_id": 100}], "request_id": "mine"}
    async with serve(log=sink, runtimes={"onnx": Broken}, store=Chatty(history_keep=5)) as client:
        asked.append(True)
        answer = await client.post("/score", json=body, headers={"X-Request-Id": "header"})
    written = {line["event"]: line.get("request_id") for line in lines(sink) if line.get("route") in (None, "/score")}

    assert answer.status_code == 500
    assert written == {
        "no API key is asked for": None,
        "ready": None,
        "a library speaks": "mine",
        "request failed": "mine",
        "access": "mine",
    }


@pytest.mark.anyio
async def test_a_failing_sink_fails_no_request(serve):
    """With a broken pipe behind the log the service answers as ever."""
    async with serve(log=BrokenPipe()) as client:
        answer = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})

    assert answer.status_code == 200


def test_lost_lines_are_counted():
    """A sink that cannot be written or flushed loses the line and goes on."""
    sink = SafeSink(BrokenPipe())
    sink.write(b"x\n")
    sink.flush()

    assert sink.lost == 2


def test_a_reader_that_hangs_does_not_hold_the_writer():
    """Into a pipe that is full nothing is written and nothing waits; with room again lines come through whole."""
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    sink, line = SafeSink(DescriptorSink(writes)), b"x" * 1999 + b"\n"
    for _ in range(5):
        sink.write(line)
        sink.flush()
    lost = sink.lost
    received = os.read(reads, 8192)
    sink.write(line)
    again = os.read(reads, 8192)
    os.close(reads)
    os.close(writes)

    assert lost >= 1
    assert received == line * (5 - lost)
    assert (again, sink.lost) == (line, lost)


def test_levels_and_exceptions():
    """Events below the level are dropped; an exception is logged with its stack; any value can be logged."""
    sink = io.BytesIO()
    log = json_log("warning", sink=sink)
    log.info("quiet")
    try:
        raise ValueError("why")
    except ValueError:
        log.error("loud", exc_info=True, value={1, 2}.__class__)

    (line,) = lines(sink)
    assert (line["event"], line["level"]) == ("loud", "error")
    assert "ValueError: why" in line["exception"]


def test_libraries_log_through_ours():
    """What uvicorn logs through the standard library comes out as JSON of the same form."""
    sink = io.BytesIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        redirect_stdlib(json_log("info", sink=sink), "info")
        logging.getLogger("uvicorn.error").info("listening on %s", "100%")
        logging.getLogger("uvicorn.error").debug("quiet")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("failed")
    finally:
        root.handlers, _ = handlers, root.setLevel(level)

    listening, failed = lines(sink)
    assert (listening["event"], listening["logger"]) == ("listening on 100%", "uvicorn.error")
    assert "ValueError: why" in failed["exception"]
