"""Keys of callers: several at once, from the environment or a file that may change, and never told to anybody."""

import asyncio
import io
import os

import orjson
import pytest

from service.access import Access
from service.config import Settings, SettingsError, read_settings
from service.keys import Keys, parse_keys
from service.logs import json_log

pytestmark = pytest.mark.anyio

OLD, NEW, ADMIN = "old-key-0123456789", "new-key-0123456789", "admin-key-0123456789"
SCORE = {"user_id": 1, "candidates": [{"item_id": 100}]}
KEYED = [
    ("POST", "/score"),
    ("POST", "/events"),
    ("POST", "/feedback"),
    ("GET", "/bundle"),
    ("GET", "/console/state"),
    ("GET", "/console/items"),
    ("GET", "/console/report"),
    ("GET", "/nothing/like/this"),
]
OPEN = ["/livez", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json", "/", "/console/files/main.js"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def lines(log: io.BytesIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in log.getvalue().splitlines()]


async def test_what_is_not_open_asks_for_a_key(serve):
    """401 without one, 403 with another or with an admin key, in the one error shape, and nothing repeats what came."""
    others = (f"Bearer {NEW}", f"Bearer {ADMIN}", f"Basic {OLD}", OLD, "", f"Bearer {OLD}x")
    async with serve(api_keys=OLD, admin_key=ADMIN) as client:
        none = [await client.request(*each, content=b"{") for each in KEYED]
        wrong = [
            await client.request(*each, content=b"{", headers={"Authorization": given})
            for given in others
            for each in KEYED
        ]
        right = [await client.request(*each, content=b"{", headers=bearer(OLD)) for each in KEYED]

    assert {(answer.status_code, answer.json()["error_type"]) for answer in none} == {(401, "unauthorized")}
    assert {answer.headers["www-authenticate"] for answer in none} == {"Bearer"}
    assert all(answer.json()["request_id"] == answer.headers["x-request-id"] for answer in none)
    assert {(answer.status_code, answer.json()["error_type"]) for answer in wrong} == {(403, "forbidden")}
    assert not {answer.status_code for answer in right} & {401, 403}
    assert not any(secret in answer.text for answer in [*none, *wrong] for secret in (OLD, NEW, ADMIN))


async def test_what_is_open_asks_for_none(serve):
    """Probes, metrics, descriptions of the API and the page that lets one type a key."""
    async with serve(api_keys=OLD) as client:
        assert [(await client.get(path)).status_code for path in OPEN] == [200] * len(OPEN)


async def test_without_keys_nobody_is_asked_and_the_log_says_so(serve):
    """A key that is sent all the same is ignored; with keys the log does not say it."""
    without, with_keys = io.BytesIO(), io.BytesIO()
    async with serve(log=without) as client:
        answer = await client.post("/score", json=SCORE, headers=bearer(NEW))
    async with serve(log=with_keys, api_keys=OLD):
        pass

    told = [line["event"] for line in lines(without)]
    assert answer.status_code == 200
    assert [event for event in told if "no API key is asked for" in event]
    assert b"no API key is asked for" not in with_keys.getvalue()


async def test_several_keys_count_at_once(serve):
    """Each of them, so that callers change over one by one; commas stand between."""
    async with serve(api_keys=f"{OLD}, {NEW}") as client:
        answers = [await client.post("/score", json=SCORE, headers=bearer(key)) for key in (OLD, NEW, f"{OLD},{NEW}")]

    assert [answer.status_code for answer in answers] == [200, 200, 403]


async def test_refusals_are_counted(serve):
    """By reason for /score, and by route and status for all, before the body is read."""
    async with serve(api_keys=OLD) as client:
        await client.post("/score", content=b"x" * 10_000)
        await client.post("/score", json=SCORE, headers=bearer(NEW))
        await client.post("/events", json=SCORE)
        text = (await client.get("/metrics")).text

    assert 'ctr_refused_total{reason="unauthorized"} 1.0' in text
    assert 'ctr_refused_total{reason="forbidden"} 1.0' in text
    assert 'ctr_requests_total{code="401",route="/events"} 1.0' in text


async def test_a_file_is_followed(tmp_path):
    """New keys count and old ones end without a restart, also where the file is replaced, as Kubernetes does it."""
    file, log = tmp_path / "keys", io.BytesIO()
    file.write_text(f"# the shop's\n{OLD}\n")
    keys = Access(Settings(api_keys_file=str(file))).api
    assert keys is not None
    found = [[keys.accepts(key.encode()) for key in (OLD, NEW)]]
    following = asyncio.create_task(keys.follow(json_log("info", sink=log), setting="X", every_s=0.01))
    for content in (f"{OLD}\n\n{NEW}\n", NEW):
        (tmp_path / "next").write_text(content)
        os.replace(tmp_path / "next", file)
        before = len(lines(log))
        while len(lines(log)) == before:  # noqa: ASYNC110  # nothing to wait on
            await asyncio.sleep(0.01)
        found.append([keys.accepts(key.encode()) for key in (OLD, NEW)])
    following.cancel()

    assert found == [[True, False], [True, True], [False, True]]
    assert [line["keys"] for line in lines(log)] == [2, 1]
    assert not any(key.encode() in log.getvalue() for key in (OLD, NEW))


async def test_a_running_service_follows_both_files(serve, tmp_path):
    """Keys of callers and of /admin are replaced while it serves."""
    api, admin = tmp_path / "api", tmp_path / "admin"
    for file in (api, admin):
        file.write_text(OLD)
    calls = [("/bundle", key) for key in (OLD, NEW)] + [("/admin/bundles", key) for key in (OLD, NEW)]
    async with serve(api_keys_file=str(api), admin_key_file=str(admin)) as client:

        async def statuses() -> list[int]:
            return [(await client.get(path, headers=bearer(key))).status_code for path, key in calls]

        before = await statuses()
        for file in (api, admin):
            file.write_text(NEW)
        async with asyncio.timeout(20):
            while await statuses() != [403, 200, 403, 200]:  # noqa: ASYNC110  # asked as callers ask
                await asyncio.sleep(0.1)

    assert before == [200, 403, 200, 403]


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"short-secret", b"\xc3\xa9" * 20, b"a" * 70_000])
async def test_a_file_that_cannot_be_used_changes_nothing(tmp_path, content):
    """At the start it ends the service; later the keys stay, and the log says so once."""
    file, log = tmp_path / "keys", io.BytesIO()
    file.write_text(OLD)
    keys = Access(Settings(api_keys_file=str(file))).api
    assert keys is not None
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^CTR_API_KEYS_FILE: ") as caught:
        Access(Settings(api_keys_file=str(file)))
    following = asyncio.create_task(keys.follow(json_log("info", sink=log), setting="X", every_s=0.005))
    await asyncio.sleep(0.1)
    following.cancel()

    assert keys.accepts(OLD.encode())
    assert [line["event"] for line in lines(log)] == ["keys kept: their file cannot be used"]
    assert "short-secret" not in str(caught.value) + log.getvalue().decode()


def test_bad_keys_are_refused_unquoted():
    """Too short, with a space, in two places at once; empty is none."""
    for bad in ("short-secret", "0123456789 123456", f"{OLD},short-secret", ","):
        with pytest.raises(SettingsError, match=r"^CTR_API_KEYS: must hold") as caught:
            read_settings({"CTR_API_KEYS": bad})
        assert bad not in str(caught.value)
    with pytest.raises(SettingsError, match="exclude each other"):
        read_settings({"CTR_API_KEYS": OLD, "CTR_API_KEYS_FILE": "keys"})
    assert Access(read_settings({"CTR_API_KEYS": "", "CTR_ADMIN_KEY": " "})).api is None
    assert OLD not in repr(read_settings({"CTR_API_KEYS": OLD}))
    assert parse_keys(f"\n # comment\n{OLD},{NEW}\r\n") == [OLD, NEW]


def test_only_digests_are_kept():
    """So that a dump of the process's objects does not name them."""
    keys = Keys([OLD])

    assert not keys.accepts(b"")
    assert OLD not in str(vars(keys))


async def test_no_secret_is_told(serve, tmp_path):
    """Keys, passwords and paths of key files are in no answer, header, metric or log line, at the lowest log level."""
    file, log = tmp_path / "secret-folder" / "keys", io.BytesIO()
    file.parent.mkdir()
    file.write_text(ADMIN)
    secrets = [OLD, ADMIN, "pass-word-0123456789", "secret-folder"]
    settings = {"api_keys": OLD, "admin_key_file": str(file), "log_level": "debug", "deadline_ms": 5000}
    told = []
    async with serve(store=None, log=log, **settings) as client:
        paths = [path.replace("{path}", "main.js") for path in (await client.get("/openapi.json")).json()["paths"]]
        for path in [*paths, "/docs", "/console/state"]:
            for key in (OLD, ADMIN, "pass-word-0123456789"):
                for method in ("GET", "POST", "DELETE"):
                    answer = await client.request(method, path, headers=bearer(key), content=b"{}")
                    told += [answer.text, str(answer.headers)]

    assert len(paths) >= 15
    assert [secret for secret in secrets if any(secret in each for each in [*told, log.getvalue().decode()])] == []
