"""Where bundles come from: folders and URLs say what should serve, and a copy is never trusted."""

import asyncio
import dataclasses
import os
import shutil
import subprocess
import sys

import fsspec
import pytest

from model.bundle.errors import BundleError
from model.bundle.folder import GOLDEN, read_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import remove_pointer, write_pointer
from service.config import SettingsError
from service.fetch import KEEP, RemoteSource
from service.source import LocalSource, open_source
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

URL = "memory://models/tiny"


@pytest.fixture
def root(tmp_path):
    """Versions v1 and v2; `stable` points to v1."""
    for version in ("v1", "v2"):
        write_tiny_bundle(tmp_path / "root", tiny_encoder(), version=version)
    write_pointer(tmp_path / "root", "stable", "v1")
    return tmp_path / "root"


@pytest.fixture
def remote(root):
    """The same behind a URL: a file system in memory, emptied afterwards."""
    fs = fsspec.filesystem("memory")
    fs.put(str(root), "/models/tiny", recursive=True)
    yield fs
    fs.rm("/models", recursive=True)


@pytest.fixture
def cache(tmp_path):
    """An empty cache folder."""
    return tmp_path / "cache"


@pytest.fixture(params=["folder", "url"])
def source(request, root, cache):
    """A source of each kind over the same versions."""
    return LocalSource(root) if request.param == "folder" else RemoteSource(f"file://{root}", cache=cache)


def test_a_source_follows_the_pointers(source, root):
    """`stable` and `canary` name what should serve; both kinds say the same, and fetch what they named."""
    before = source.look()
    write_pointer(root, "stable", "v2")
    write_pointer(root, "canary", "v1")
    after = source.look()

    assert {role: wanted.version for role, wanted in before.items()} == {"stable": "v1"}
    assert {role: wanted.version for role, wanted in after.items()} == {"stable": "v2", "canary": "v1"}
    assert before["stable"] == after["canary"]
    assert read_bundle(source.fetch(after["stable"])).manifest.version == "v2"
    assert source.versions() == ["v1", "v2"]


def test_a_change_of_content_is_seen(source, root):
    """A file that changed, or is gone, makes another content, and so does another manifest; looking does not."""
    contents = [source.look()["stable"].content, source.look()["stable"].content]
    for name, change in ((GOLDEN, b"x"), (MANIFEST, b"{}")):
        (root / "v1" / name).write_bytes(change)
        contents.append(source.look()["stable"].content)
    (root / "v1" / GOLDEN).unlink()
    contents.append(source.look()["stable"].content)

    assert contents[0] == contents[1]
    assert len(set(contents)) == 4


@pytest.mark.parametrize("text", ["../v1", "", "v1/v2", "\x00"])
def test_a_bad_pointer_is_refused(source, root, text):
    """A pointer that leads elsewhere is not followed."""
    (root / "stable").write_text(text)

    with pytest.raises(BundleError, match="does not name a version"):
        source.look()


def test_nothing_to_serve_is_said(source, root):
    """No pointer and no bundle: the message names what was looked for."""
    remove_pointer(root, "stable")

    with pytest.raises(BundleError, match=r"manifest\.json: not found, and there is no `stable` pointer"):
        source.look()


def test_a_version_that_is_not_there_cannot_be_fetched(source, root):
    """A pointer may be ahead of the version that it names; then that is refused, and seen when it comes."""
    shutil.move(root / "v1", root.parent / "v1")
    missing = source.look()["stable"]
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_bundle(source.fetch(missing))
    shutil.move(root.parent / "v1", root / "v1")

    assert source.look()["stable"] != missing
    assert read_bundle(source.fetch(source.look()["stable"])).manifest.version == "v1"


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_one_bundle_without_pointers(root, cache, kind):
    """The configuration may name a version itself; then there is no other."""
    path = root / "v2"
    source = LocalSource(path) if kind == "folder" else RemoteSource(f"file://{path}", cache=cache)
    found = source.look()

    assert [(role, wanted.version, wanted.pointed) for role, wanted in found.items()] == [("stable", "v2", False)]
    assert (source.versions(), source.root) == ([], None)
    assert read_bundle(source.fetch(found["stable"])).manifest.version == "v2"


def test_only_a_folder_with_pointers_can_be_changed(root, cache):
    """`root` is where pointers can be moved: not at a URL, nor beside a pointer that the configuration names."""
    assert LocalSource(root).root == root
    assert LocalSource(root / "stable").root is None
    assert LocalSource(root / "none").root is None
    assert RemoteSource(f"file://{root}", cache=cache).root is None
    assert LocalSource(root / "stable").look()["stable"].version == "v1"


def test_a_copy_is_made_once_and_verified(remote, cache):
    """The second time the copy serves; files are those of the bundle, readable by this user alone."""
    source = RemoteSource(URL, cache=cache)
    wanted = source.look()["stable"]
    folder = source.fetch(wanted)
    remote.rm("/models/tiny/v1/user.onnx")

    assert source.fetch(wanted) == folder
    assert read_bundle(folder).manifest.version == "v1"
    assert folder.parent.stat().st_mode & 0o077 == 0


def test_a_spoiled_copy_is_made_again(remote, cache):
    """The cache need not be trusted: what does not match the remote manifest is replaced."""
    source = RemoteSource(URL, cache=cache)
    wanted = source.look()["stable"]
    folder = source.fetch(wanted)
    (folder / GOLDEN).write_bytes(b"spoiled")
    again = read_bundle(source.fetch(wanted)).manifest
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes().replace(b"tiny", b"evil"))

    assert again.version == "v1"
    assert read_bundle(source.fetch(wanted)).manifest.name == "tiny"


def test_a_spoiled_remote_bundle_leaves_nothing_behind(remote, cache):
    """A wrong checksum is found before the copy gets its name."""
    remote.pipe_file("/models/tiny/v1/golden.npz", b"spoiled")
    source = RemoteSource(URL, cache=cache)

    with pytest.raises(BundleError, match=r"golden\.npz: its content does not match"):
        source.fetch(source.look()["stable"])
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_manifest_cannot_write_outside_the_copy(remote, root, cache):
    """A path with .. in a manifest is refused before anything is written there."""
    manifest = read_bundle(root / "v1").manifest
    evil = dataclasses.replace(manifest, files={**manifest.files, "../../evil": "0" * 64})
    remote.pipe_file("/models/tiny/v1/manifest.json", evil.to_bytes())
    remote.pipe_file("/models/evil", b"evil")
    source = RemoteSource(URL, cache=cache)

    with pytest.raises(BundleError, match="outside the bundle"):
        source.fetch(source.look()["stable"])
    assert list(cache.parent.rglob("evil")) == []


def test_old_copies_are_removed(remote, root, cache):
    """The newest few stay, the one in use among them; so does no copy that a killed process left unfinished."""
    source = RemoteSource(URL, cache=cache)
    first = source.fetch(source.look()["stable"])
    os.utime(first, (1, 1))
    abandoned = first.parent / ".fetching-killed"
    abandoned.mkdir()
    os.utime(abandoned, (1, 1))
    for number in range(3, 3 + KEEP):
        version = f"v{number}"
        write_tiny_bundle(root, tiny_encoder(), version=version)
        remote.put(str(root / version), f"/models/tiny/{version}", recursive=True)
        remote.pipe_file("/models/tiny/stable", version.encode())
        newest = source.fetch(source.look()["stable"])

    left = sorted(path.name for path in first.parent.iterdir())
    assert len(left) == KEEP
    assert newest.name in left
    assert first.name not in left


def test_a_url_that_cannot_be_read_is_a_reason(cache):
    """The place is named and the kind of error, but not its text, which may quote a signed URL."""

    class Broken:
        def invalidate_cache(self) -> None:
            """Nothing is cached."""

        def cat_file(self, path: str) -> bytes:
            raise PermissionError("secret signature")

    source = RemoteSource(URL, cache=cache)
    source._fs = Broken()

    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read: PermissionError") as caught:
        source.look()
    assert "secret" not in str(caught.value)


def test_a_path_needs_no_fsspec(tmp_path):
    """A service without the optional library serves folders, and says what a URL needs."""
    program = (
        "import sys\n"
        "sys.modules['fsspec'] = None\n"  # as if it were not installed
        "from service.source import open_source\n"
        f"print(type(open_source({str(tmp_path)!r}, cache='')).__name__)\n"
        "open_source('s3://bucket/tiny', cache='')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert done.stdout == "LocalSource\n"
    assert "CTR_BUNDLE: a s3:// URL needs fsspec" in done.stderr
    assert "install ctr-scorer[object-store]" in done.stderr


def test_an_unknown_kind_of_url_is_refused():
    """The message names the setting."""
    with pytest.raises(SettingsError, match=r"^CTR_BUNDLE: a nope:// URL needs"):
        open_source("nope://bucket", cache="")


@pytest.mark.anyio
async def test_the_service_follows_a_url(serve, remote, cache):
    """Start from a URL, then move the pointer there: the new version is copied and serves."""
    async with serve(bundle=URL, bundle_cache=str(cache), watch_s=0.01) as client:
        first = (await client.get("/readyz")).json()["bundle_version"]
        remote.pipe_file("/models/tiny/stable", b"v2\n")
        async with asyncio.timeout(10):
            while (await client.get("/readyz")).json()["bundle_version"] != "v2":  # noqa: ASYNC110  # as a probe asks
                await asyncio.sleep(0.01)

    assert first == "v1"
