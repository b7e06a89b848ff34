"""The feature log: what is written of requests and clicks, what is dropped, and what is erased."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from service.feature_lines import owner_starts
from service.split import in_share
from tests.online.bundle_versions import metric, until_metric

pytestmark = pytest.mark.anyio

KEY = {"authorization": f"Bearer {'k' * 16}"}
CANDIDATES = [{"item_id": 100}, {"item_id": 111}, {"item_id": 7}]
WRITTEN, DROPPED, FAILED = (f'ctr_feature_log_lines_total{{outcome="{o}"}}' for o in ("written", "dropped", "failed"))


def body(request_id: str, **more: object) -> dict[str, object]:
    """A request."""
    return {"request_id": request_id, "user_id": 1, "candidates": CANDIDATES, **more}


def lines(folder: Path) -> list[dict[str, object]]:
    """The log, without what was erased."""
    raw = b"".join(path.read_bytes() for path in sorted(folder.glob("features-*.jsonl")))
    return [json.loads(line) for line in raw.splitlines() if line.strip()]


@pytest.fixture
def logged(serve, tmp_path):
    """`async with logged() as client`: the service with a feature log of every request in `tmp_path / "log"`."""
    return lambda **settings: serve(feature_log=str(tmp_path / "log"), **{"feature_log_percent": 100, **settings})


async def test_a_line_has_all_that_was_scored(logged, tmp_path):
    """Raw values by name: as the request gave them, else from the catalogue, null where nobody knows."""
    asked = body(
        "r1",
        user={"city": "rome", "age": 30},
        context={"hour": 5},
        history=[{"item_id": 112, "time": 6}, {"item_id": 101, "time": 5}, {"item_id": 7, "time": 9}],
    )
    async with logged() as client:
        answer = (await client.post("/score", json=asked)).json()
        await until_metric(client, WRITTEN, 1)
    (line,) = lines(tmp_path / "log")

    assert line.pop("time_ms") > 1_700_000_000_000
    assert line == {
        "user_id": 1,
        "request_id": "r1",
        "bundle": "tiny",
        "bundle_version": "v1",
        "degraded": "none",
        "user": {"user_id": 1, "city": "rome", "age": 30.0},
        "context": {"hour": 5},
        "history": {"item": [101, 112, 7], "category": [10, 11, -1], "time": [5, 6, 9], "action": [0, 0, 0]},
        "items": {"item_id": [100, 111, 7], "cate_id": [10, 11, None], "price": [100.0, 111.0, None]},
        "pctr": [row["pctr"] for row in answer["scores"]],
    }


async def test_the_sample_is_chosen_by_request_id(logged, tmp_path):
    """A request's clicks are in the log if and only if the request is."""
    names = [f"r{number}" for number in range(60)]
    chosen = [name for name in names if in_share(f"log:{name}", percent=30)]
    async with logged(feature_log_percent=30) as client:
        for name in names:
            await client.post("/score", json=body(name))
            shown = [{"item_id": 100, "pctr": 0.5, "clicked": True}]
            await client.post("/feedback", json={"request_id": name, "bundle_version": "v1", "impressions": shown})
        await until_metric(client, WRITTEN, 2 * len(chosen))
    found = lines(tmp_path / "log")

    assert 5 < len(chosen) < 40
    assert [line["request_id"] for line in found if "request_id" in line] == chosen
    assert [line["feedback_for"] for line in found if "feedback_for" in line] == chosen


async def test_without_a_folder_nothing_is_written(serve, tmp_path):
    """It is off by default."""
    async with serve(feature_log_percent=100) as client:
        await client.post("/score", json=body("r1"))
        counts = [await metric(client, name) for name in (WRITTEN, DROPPED, FAILED)]

    assert counts == [0, 0, 0]
    assert not list(tmp_path.iterdir())


async def test_a_log_that_cannot_be_written_costs_no_answer(logged, tmp_path):
    """Lines are lost and counted; once writing works again, so does the log."""
    folder = tmp_path / "log"
    async with logged() as client:
        shutil.rmtree(folder)
        statuses = [(await client.post("/score", json=body(f"r{n}"))).status_code for n in range(5)]
        await until_metric(client, FAILED, 5)
        folder.mkdir()
        await client.post("/score", json=body("later"))
        await until_metric(client, WRITTEN, 1)

    assert statuses == [200] * 5
    assert [line["request_id"] for line in lines(folder)] == ["later"]


async def test_a_disk_that_hangs_costs_lines_and_no_answer(logged, tmp_path):
    """What waits is bounded; beyond that lines are dropped and counted."""
    import fcntl  # noqa: PLC0415  # only this test plays the other process

    requests = 300
    async with logged() as client:
        with (tmp_path / "log" / ".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            statuses = {(await client.post("/score", json=body(f"r{n}"))).status_code for n in range(requests)}
            dropped = await metric(client, DROPPED)
        await until_metric(client, WRITTEN, requests - dropped)

    assert statuses == {200}
    assert 0 < dropped < requests
    assert len(lines(tmp_path / "log")) == requests - dropped


async def test_what_waits_is_written_at_the_end(logged, tmp_path):
    """A service that ends loses no line that it has taken."""
    async with logged() as client:
        for number in range(20):
            await client.post("/score", json=body(f"r{number}"))

    assert len(lines(tmp_path / "log")) == 20
    assert "feature-log" not in {thread.name for thread in threading.enumerate()}


async def test_a_user_is_erased_from_all_files(logged, tmp_path):
    """The user's requests and their clicks go; other users' stay."""
    owners = {"a": 7, "b": 70, "c": 7, "d": 8}
    async with logged(admin_key="k" * 16) as client:
        for name, user in owners.items():
            await client.post("/score", json={**body(name), "user_id": user})
            shown = [{"item_id": 100, "pctr": 0.5, "clicked": True}]
            await client.post("/feedback", json={"request_id": name, "bundle_version": "v1", "impressions": shown})
        erased, again = [
            (await client.delete("/users/7/history", headers=KEY)).json()["erased"]["feature_log_lines"]
            for _ in range(2)
        ]
    found = lines(tmp_path / "log")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "log").glob("*.jsonl"))

    assert (erased, again) == (4, 0)
    assert [line["user_id"] for line in found if "user_id" in line] == [70, 8]
    assert [line["feedback_for"] for line in found if "feedback_for" in line] == ["b", "d"]
    assert b'"user_id":7,' not in raw


@pytest.mark.parametrize(
    ("user", "starts"),
    [
        (7, (b'{"user_id":"7",', b'{"user_id":7,')),
        ("7", (b'{"user_id":"7",', b'{"user_id":7,')),
        ("07", (b'{"user_id":"07",',)),
        ('a"b', (b'{"user_id":"a\\"b",',)),
        ("\u0667", ('{"user_id":"\u0667",'.encode(),)),
    ],
)
def test_a_user_has_one_or_two_forms(user, starts):
    """An integer and its digits are one user; other texts that look like numbers are not."""
    assert owner_starts(user) == starts


async def test_a_folder_that_cannot_be_made_is_a_wrong_setting(serve, tmp_path):
    """The service does not start without the log that was asked for, and says which setting is at fault."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ValueError, match="CTR_FEATURE_LOG: cannot be written"):
        async with serve(feature_log=str(tmp_path / "file" / "log")):
            pass
