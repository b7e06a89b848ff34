"""/admin moves pointers for whoever has the key, after checks, and says what stands against it."""

import io
import stat

import pytest

from model.bundle.folder import GOLDEN
from model.bundle.pointers import PREVIOUS, read_pointer, write_pointer
from service.access import Access
from service.config import Settings, SettingsError, read_settings
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

pytestmark = pytest.mark.anyio

KEY = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {KEY}"}
CALLS = [
    ("GET", "/admin/bundles"),
    ("POST", "/admin/promote"),
    ("POST", "/admin/rollback"),
    ("DELETE", "/admin/canary"),
]


@pytest.fixture
def root(tmp_path):
    """Versions v1 and v2; `stable` points to v1."""
    for version in ("v1", "v2"):
        write_tiny_bundle(tmp_path, tiny_encoder(), version=version)
    write_pointer(tmp_path, "stable", "v1")
    return tmp_path


@pytest.fixture
def admin(serve, root):
    """`async with admin(**settings) as client`: the service with a key, looking once."""
    return lambda **settings: serve(**{"bundle": str(root), "watch_s": 0, "admin_key": KEY, **settings})


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_without_a_key_the_routes_do_not_exist(serve, method, path):
    """They answer as any path does that is not there, whatever is sent, and are not documented."""
    async with serve() as client:
        answer = await client.request(method, path, headers=BEARER)
        other = await client.request(method, "/nothing", headers=BEARER)
        documented = (await client.get("/openapi.json")).json()["paths"]

    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    assert answer.json()["error"] == other.json()["error"]
    assert not [path for path in documented if path.startswith("/admin")]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("header", [None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe9"])
async def test_every_route_asks_for_the_key(admin, root, method, path, header):
    """Without the key nothing is told and nothing moves, and the answer does not repeat what was sent."""
    status = 401 if header is None else 403
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    async with admin() as client:
        write_pointer(root, "canary", "v2")
        answer = await client.request(method, path, headers=headers, json={"version": "v2"})

    assert answer.status_code == status
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert (read_pointer(root, "stable"), read_pointer(root, "canary")) == ("v1", "v2")
    assert KEY not in answer.text


async def test_the_overview(admin, root):
    """Versions, pointers, what serves here and the settings that decide who gets what."""
    write_pointer(root, "canary", "v2")
    async with admin(canary_percent=5) as client:
        found = (await client.get("/admin/bundles", headers=BEARER)).json()

    runtime = found["serving"]["stable"].pop("runtime")
    assert runtime
    assert found["serving"]["stable"] == {"name": "tiny", "version": "v1"}
    assert found["versions"] == ["v1", "v2"]
    assert found["pointers"] == {"stable": "v1", "canary": "v2", "stable.previous": None}
    assert (found["canary_percent"], found["shadow_percent"], found["watch_s"]) == (5, 0, 0)
    assert found["last_refusal"] is None


async def test_promote_and_roll_back(admin, root):
    """`stable` moves, the watch is what loads it, and one step back is possible, once."""
    async with admin() as client:
        promoted = await client.post("/admin/promote", headers=BEARER, json={"version": "v2"})
        serving = (await client.get("/readyz")).json()["bundle_version"]
        moved = read_pointer(root, "stable"), read_pointer(root, PREVIOUS)
        back = await client.post("/admin/rollback", headers=BEARER)
        again = await client.post("/admin/rollback", headers=BEARER)

    assert (promoted.status_code, promoted.json()) == (202, {"pointer": "stable", "version": "v2", "watch_s": 0})
    assert serving == "v1"  # this service looks only once
    assert moved == ("v2", "v1")
    assert (back.status_code, back.json()["version"], read_pointer(root, "stable")) == (202, "v1", "v1")
    assert (again.status_code, again.json()["error_type"]) == (409, "conflict")
    assert "nothing to go back to" in again.json()["error"]


@pytest.mark.parametrize(("canary", "left"), [("v2", None), ("v1", "v1")])
async def test_a_rollback_takes_the_version_from_canary_users_too(admin, root, canary, left):
    """A canary of the version that is taken back ends with it; another one stays."""
    write_pointer(root, "stable", "v2")
    write_pointer(root, "canary", canary)
    async with admin() as client:
        await client.post("/admin/rollback", headers=BEARER)

    assert (read_pointer(root, "stable"), read_pointer(root, "canary")) == ("v1", left)


async def test_the_canary_is_pointed_and_ended(admin, root):
    """Promoting to `canary` leaves `stable`; ending it removes the pointer, and a second time there is none."""
    async with admin() as client:
        begun = await client.post("/admin/promote", headers=BEARER, json={"version": "v2", "pointer": "canary"})
        pointers = read_pointer(root, "stable"), read_pointer(root, "canary")
        ended = await client.delete("/admin/canary", headers=BEARER)
        again = await client.delete("/admin/canary", headers=BEARER)

    assert (begun.status_code, pointers) == (202, ("v1", "v2"))
    assert (ended.status_code, ended.json()["version"], read_pointer(root, "canary")) == (202, None, None)
    assert again.status_code == 409


async def test_a_bad_version_is_not_promoted(admin, root):
    """A version that is not there, has a wrong checksum or another name is a 409 that says so; nothing moves."""
    (root / "v2").rename(root / "v3")
    write_tiny_bundle(root, tiny_encoder(), version="v2")
    (root / "v2" / GOLDEN).write_bytes(b"spoiled")
    async with admin() as client:
        answers = [
            await client.post("/admin/promote", headers=BEARER, json={"version": version})
            for version in ("v9", "v2", "v3")
        ]

    assert [answer.status_code for answer in answers] == [409] * 3
    reasons = [answer.json()["error"] for answer in answers]
    assert "manifest.json" in reasons[0]
    assert "golden.npz: its content does not match the checksum" in reasons[1]
    assert "is of version 'v2' in a folder 'v3'" in reasons[2]
    assert read_pointer(root, "stable") == "v1"


async def test_a_spoiled_previous_version_is_not_rolled_back_to(admin, root):
    """What would serve is verified first, whichever way the pointer moves."""
    write_pointer(root, "stable", "v2")
    (root / "v1" / GOLDEN).write_bytes(b"spoiled")
    async with admin() as client:
        answer = await client.post("/admin/rollback", headers=BEARER)

    assert (answer.status_code, read_pointer(root, "stable")) == (409, "v2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": "../v2"}',
        b'{"version": "v2", "pointer": "latest"}',
        b'{"version": "v2", "force": true}',
    ],
)
async def test_a_wrong_body_is_refused(admin, root, body):
    """The message says what to change, in the one error shape."""
    async with admin() as client:
        answer = await client.post("/admin/promote", headers=BEARER, content=body)

    assert (answer.status_code, answer.json()["error_type"]) == (422, "invalid_request")
    assert read_pointer(root, "stable") == "v1"


@pytest.mark.parametrize("bundle", ["v1", "stable", "file"])
async def test_where_there_are_no_pointers_nothing_is_moved(admin, root, tmp_path_factory, bundle):
    """A single bundle, a pointer, and a URL have no pointers to move from here: 409, and the reason."""
    named = f"file://{root}" if bundle == "file" else str(root / bundle)
    cache = str(tmp_path_factory.mktemp("cache"))
    async with admin(bundle=named, bundle_cache=cache) as client:
        answers = [await client.request(m, path, headers=BEARER, json={"version": "v2"}) for m, path in CALLS[1:]]
        overview = (await client.get("/admin/bundles", headers=BEARER)).json()

    assert [answer.status_code for answer in answers] == [409] * 3
    assert all("a URL" in a.json()["error"] if bundle == "file" else "one bundle" in a.json()["error"] for a in answers)
    assert overview["serving"]["stable"]["version"] == "v1"
    assert overview["versions"] == (["v1", "v2"] if bundle == "file" else [])


async def test_the_key_is_never_logged(admin):
    """Neither start-up nor a good or bad call writes the key, or what was sent for one."""
    log = io.BytesIO()
    async with admin(log=log, log_level="debug") as client:
        await client.get("/admin/bundles", headers=BEARER)
        await client.get("/admin/bundles", headers={"Authorization": "Bearer wrong-but-secret"})
        await client.post("/admin/promote", headers=BEARER, json={"version": "v2"})

    assert b'"pointer moved"' in log.getvalue()
    assert KEY.encode() not in log.getvalue()
    assert b"wrong-but-secret" not in log.getvalue()


def test_the_key_is_never_shown():
    """Settings do not show it, nor does the message about a bad one."""
    settings = read_settings({"CTR_ADMIN_KEY": KEY})
    with pytest.raises(SettingsError) as caught:
        read_settings({"CTR_ADMIN_KEY": "too short"})

    assert KEY not in repr(settings)
    assert KEY not in str(settings.model_dump())
    assert str(caught.value).startswith(
        "CTR_ADMIN_KEY: must hold 1 to 100 keys of 16 to 256 printable ASCII characters"
    )
    assert "too short" not in str(caught.value)


def test_the_key_may_come_from_a_file(tmp_path):
    """White space around it is not part of it; an empty key is none; a bad or missing file is named, not quoted."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(stat.S_IRUSR)
    bad = tmp_path / "bad"
    bad.write_text("short-secret")

    keys = Access(Settings(admin_key_file=str(path))).admin
    assert keys is not None
    assert keys.accepts(KEY.encode())
    assert Access(read_settings({"CTR_ADMIN_KEY": ""})).admin is None
    assert Access(Settings()).admin is None
    for file in (bad, tmp_path / "none"):
        with pytest.raises(SettingsError, match=r"^CTR_ADMIN_KEY_FILE: ") as caught:
            Access(Settings(admin_key_file=str(file)))
        assert "short-secret" not in str(caught.value)
    with pytest.raises(SettingsError, match="exclude each other"):
        read_settings({"CTR_ADMIN_KEY": KEY, "CTR_ADMIN_KEY_FILE": str(path)})
