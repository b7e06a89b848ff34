"""Where public keys are trusted, a bundle that none of them signed is refused before anything of it is parsed."""

import json
import shutil
import subprocess
import sys

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import write_pointer
from model.bundle.signature import SIGNATURE
from service.config import Settings, SettingsError
from service.fetch import RemoteSource
from service.loader import load
from service.signature import TrustedKeys
from service.trust import open_check
from tests.online.bundle_versions import looks, spoil, until_version, version_of
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

KEY = "k" * 16
URL = "memory://signed/tiny"


def public_pem(key) -> bytes:
    """What an operator puts into the file of trusted keys."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(folder, key):
    """The folder, after `key` signed its manifest."""
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))
    return folder


@pytest.fixture(scope="module")
def ours():
    """The key whose public half is trusted."""
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def theirs():
    """Another key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def keys_file(tmp_path, ours):
    """The file that the setting names."""
    (tmp_path / "keys.pem").write_bytes(public_pem(ours))
    return tmp_path / "keys.pem"


@pytest.fixture
def copy(bundle_path, tmp_path):
    """A bundle to sign."""
    return shutil.copytree(bundle_path, tmp_path / "root" / "v1")


def refusal(folder, *keys) -> str:
    """Why the loader refuses it where `keys` are trusted."""
    with pytest.raises(BundleError) as caught:
        load(folder, max_candidates=10, check=TrustedKeys(b"".join(public_pem(key) for key in keys)))
    return str(caught.value)


def test_a_signed_bundle_loads(copy, ours):
    """The signature of a trusted key opens it; without keys nobody looks at signatures."""
    check = TrustedKeys(public_pem(ours))

    assert load(signed(copy, ours), max_candidates=10, check=check).manifest.version == "v1"
    (copy / SIGNATURE).write_bytes(b"nonsense")
    assert load(copy, max_candidates=10).manifest.version == "v1"


def test_an_unsigned_bundle_is_refused(copy, ours):
    """The message says that there is no signature."""
    assert refusal(copy, ours) == "manifest.sig: not found: the bundle is not signed, and signatures are asked for"


def test_the_key_of_another_is_refused(copy, ours, theirs):
    """A signature counts only if a trusted key made it."""
    assert refusal(signed(copy, theirs), ours) == "manifest.sig: none of the trusted keys signed this manifest.json"


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"\0" * 64, b"x" * 65, b"x" * 4096])
def test_what_is_no_signature_is_refused(copy, ours, signature):
    """Of any length, and never with another error."""
    (copy / SIGNATURE).write_bytes(signature)

    assert refusal(copy, ours).startswith("manifest.sig: none of the trusted keys")


def test_a_signature_with_something_behind_it_is_refused(copy, ours):
    """The file is the signature and nothing else."""
    signature = signed(copy, ours) / SIGNATURE
    signature.write_bytes(signature.read_bytes() + b"\n")

    assert refusal(copy, ours).startswith("manifest.sig: none of the trusted keys")


def test_an_altered_manifest_is_refused_before_it_is_parsed(copy, ours):
    """One that is consistent in itself, and one that is not even JSON: the signature is what both fail by."""
    path = signed(copy, ours) / MANIFEST
    table = json.loads(path.read_bytes())
    for content in (path.read_bytes() + b" ", json.dumps({**table, "name": "evil"}).encode(), b"[" * 100_000):
        path.write_bytes(content)
        assert refusal(copy, ours).startswith("manifest.sig: none of the trusted keys")


def test_an_altered_file_is_refused(copy, ours):
    """The manifest holds the checksum of every other file, so that its signature covers them."""
    spoil(signed(copy, ours))

    assert refusal(copy, ours).startswith("golden.npz: its content does not match the checksum")


def test_keys_are_rotated_without_a_gap(copy, ours, theirs):
    """While the file has both keys, bundles of either load; then the old key goes, and what it signed with it."""
    for key in (ours, theirs):
        both = TrustedKeys(b"# old, then new\n" + public_pem(ours) + public_pem(theirs))
        assert load(signed(copy, key), max_candidates=10, check=both).manifest.version == "v1"
    assert refusal(signed(copy, ours), theirs).startswith("manifest.sig: none of the trusted keys")


def test_a_link_that_leads_nowhere_is_a_missing_signature(copy, ours):
    """A signature that is a folder cannot be read; one that is a dead link is not there."""
    (copy / SIGNATURE).symlink_to("nowhere")
    assert "not found" in refusal(copy, ours)
    (copy / SIGNATURE).unlink()
    (copy / SIGNATURE).mkdir()
    assert refusal(copy, ours).startswith("manifest.sig: cannot be read")


def wrong_files() -> dict[str, bytes]:
    """What is no file of Ed25519 public keys, by what it is."""
    key, other = Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "empty": b"",
        "text": b"not a key",
        "raw": key.public_key().public_bytes_raw(),
        "private": private,
        "both": public_pem(key) + private,
        "another kind": public_pem(other),
        "cut": public_pem(key).replace(b"MCow", b"MC"),
    }


@pytest.mark.parametrize("content", wrong_files().values(), ids=wrong_files())
def test_a_wrong_file_of_keys_ends_the_service(tmp_path, content):
    """The message names the setting and repeats nothing of the file."""
    path = tmp_path / "keys.pem"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=r"^CTR_BUNDLE_PUBLIC_KEYS_FILE: (holds no|must hold)") as caught:
        open_check(Settings(bundle_public_keys_file=str(path)))
    assert "BEGIN" not in str(caught.value)


def test_a_file_of_keys_that_is_missing_ends_the_service(tmp_path):
    """Rather than serve whatever there is."""
    with pytest.raises(SettingsError, match="CTR_BUNDLE_PUBLIC_KEYS_FILE: cannot be read: No such file"):
        open_check(Settings(bundle_public_keys_file=str(tmp_path / "none")))


def test_without_the_library_the_service_ends(keys_file):
    """Without keys it is not imported; with keys `serve` says what to install, and its exit code is 2."""
    program = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"  # as if it were not installed
        "from service.config import Settings\n"
        "from service.trust import open_check\n"
        "print(open_check(Settings()))\n"
        "from service.cli import main\n"
        "sys.argv = ['ctr-service', 'serve', '--port', '0', '--store', 'memory://']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"CTR_BUNDLE_PUBLIC_KEYS_FILE": str(keys_file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout == "None\n"
    assert done.stderr.startswith("CTR_BUNDLE_PUBLIC_KEYS_FILE: needs ctr-scorer[signing], which is not installed")
    assert done.returncode == 2


@pytest.fixture
def remote(copy):
    """The bundle behind a URL, with a `stable` pointer: a file system in memory, emptied afterwards."""
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/signed/tiny/stable", b"v1\n")
    yield fs
    fs.rm("/signed", recursive=True)


def upload(fs, folder) -> None:
    """Put the version there."""
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"/signed/tiny/v1/{path.relative_to(folder)}", path.read_bytes())


def test_a_signed_bundle_is_copied_with_its_signature(remote, copy, ours, tmp_path):
    """The copy passes the loader's check as well, today and when it is there already."""
    upload(remote, signed(copy, ours))
    check = TrustedKeys(public_pem(ours))
    source = RemoteSource(URL, cache=tmp_path / "cache", check=check)
    first, again = source.fetch(source.look()["stable"]), source.fetch(source.look()["stable"])

    assert first == again
    assert load(first, max_candidates=10, check=check).manifest.version == "v1"


def test_nothing_of_an_unsigned_bundle_is_copied(remote, copy, ours, theirs, tmp_path):
    """Unsigned or of another key: it is refused before its manifest is parsed, and the cache stays empty."""
    source = RemoteSource(URL, cache=tmp_path / "cache", check=TrustedKeys(public_pem(ours)))
    for prepare in (lambda: copy, lambda: signed(copy, theirs)):
        upload(remote, prepare())
        with pytest.raises(BundleError, match=r"^manifest\.sig: "):
            source.fetch(source.look()["stable"])
    assert not (tmp_path / "cache").exists()


def test_a_copy_of_before_keys_were_set_does_not_serve(remote, copy, ours, tmp_path):
    """What an unguarded service left in the cache is not used; a signature that comes later is fetched."""
    upload(remote, copy)
    unguarded = RemoteSource(URL, cache=tmp_path / "cache")
    unguarded.fetch(unguarded.look()["stable"])
    check = TrustedKeys(public_pem(ours))
    source = RemoteSource(URL, cache=tmp_path / "cache", check=check)
    with pytest.raises(BundleError, match="not signed"):
        source.fetch(source.look()["stable"])
    upload(remote, signed(copy, ours))

    assert load(source.fetch(source.look()["stable"]), max_candidates=10, check=check).manifest.version == "v1"


@pytest.mark.anyio
async def test_an_unsigned_bundle_never_becomes_ready(serve, copy, keys_file):
    """/readyz says why, and nothing is scored."""
    async with serve(bundle=str(copy), bundle_public_keys_file=str(keys_file)) as client:
        ready = await client.get("/readyz")
        score = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})

    assert (ready.status_code, score.status_code) == (503, 503)
    assert ready.json()["error"].startswith("bundle refused: manifest.sig: not found: the bundle is not signed")


@pytest.mark.anyio
async def test_a_signed_bundle_serves_until_another_is_signed(serve, copy, keys_file, ours):
    """The pointer moves to an unsigned version: the old one goes on; once that is signed, it takes over."""
    root, key = copy.parent, {"Authorization": f"Bearer {KEY}"}
    write_pointer(root, "stable", signed(copy, ours).name)
    newer = write_tiny_bundle(root, tiny_encoder(), version="v2")
    guarded = serve(bundle=str(root), bundle_public_keys_file=str(keys_file), watch_s=0.01, admin_key=KEY)
    async with guarded as client:
        promoted = await client.post("/admin/promote", json={"version": "v2"}, headers=key)
        write_pointer(root, "stable", "v2")
        await looks(client, 3)
        before = await version_of(client)
        signed(newer, ours)
        await until_version(client, "v2")

    assert promoted.status_code == 409
    assert promoted.json()["error"].startswith("manifest.sig: not found")
    assert before == "v1"
