"""`ctr-model` signs what it exported, with keys and signatures in openssl's form; the service takes both."""

from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.signature import SIGNATURE, read_signature
from model.cli import app
from service.signature import TrustedKeys
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle


@pytest.fixture
def key() -> Ed25519PrivateKey:
    """A key that signs."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def key_file(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    """The file that it is in."""
    return write_key(tmp_path / "key.pem", key)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that nobody signed."""
    return write_tiny_bundle(tmp_path, tiny_encoder())


def write_key(path: Path, key, encryption: KeySerializationEncryption | None = None) -> Path:
    """Write a private key as `openssl genpkey` does."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return path


def trusted(key: Ed25519PrivateKey) -> TrustedKeys:
    """The service's check, for that key alone."""
    return TrustedKeys(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def run(*args: object) -> Result:
    """`ctr-model`."""
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_a_signed_bundle_is_trusted(bundle, key, key_file):
    """`sign` adds one file, which is not in the manifest, and changes no other."""
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    done = run("sign", bundle, "--key", key_file)
    after = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}

    assert (done.exit_code, done.stdout) == (0, f"wrote {bundle / SIGNATURE}\n")
    assert after == {**before, bundle / SIGNATURE: key.sign((bundle / MANIFEST).read_bytes())}
    assert len(after[bundle / SIGNATURE]) == 64
    assert SIGNATURE not in read_bundle(bundle, check=trusted(key)).manifest.files


def test_a_bundle_can_be_signed_anew(bundle, key, key_file, tmp_path):
    """With the next key, in the place of the signature of the last one."""
    new = Ed25519PrivateKey.generate()
    run("sign", bundle, "--key", key_file)
    run("sign", bundle, "--key", write_key(tmp_path / "new.pem", new))

    assert read_bundle(bundle, check=trusted(new)).manifest.version == "v1"
    with pytest.raises(BundleError, match="none of the trusted keys"):
        read_bundle(bundle, check=trusted(key))


def test_a_spoiled_bundle_is_not_signed(bundle, key_file):
    """What `sign` would vouch for has to be what was exported."""
    (bundle / "user.onnx").write_bytes(b"spoiled")
    done = run("sign", bundle, "--key", key_file)

    assert done.exit_code == 2
    assert done.stderr == "error: user.onnx: its content does not match the checksum in the manifest\n"
    assert read_signature(bundle) is None


@pytest.mark.parametrize(
    ("other", "encryption", "found"),
    [
        (X25519PrivateKey.generate(), NoEncryption(), "another kind of key"),
        (Ed25519PrivateKey.generate(), BestAvailableEncryption(b"password"), "something else"),
        (None, None, "something else"),
    ],
    ids=["another kind", "password", "text"],
)
def test_another_key_file_is_refused(bundle, tmp_path, other, encryption, found):
    """The message names the file and what it should hold."""
    path = tmp_path / "other.pem"
    path.write_text("nothing") if other is None else write_key(path, other, encryption)
    done = run("sign", bundle, "--key", path)

    allowed = "an Ed25519 private key in PEM, without a password"
    assert (done.exit_code, done.stderr) == (2, f"error: {path}: (file): found '{found}', allowed: {allowed}\n")


def test_export_signs(trained_runs, tmp_path, key, key_file):
    """A version is there with its signature or not at all, and a wrong key is found before anything is written."""
    out = tmp_path / "out"
    wrong = run("export", trained_runs["base"], "--out", out, "--sign-key", tmp_path / "none")
    assert (wrong.exit_code, out.exists()) == (2, False)
    wanted = ("--out", out, "--version", "v1", "--format", "torchscript")  # the faster one
    done = run("export", trained_runs["base"], *wanted, "--sign-key", key_file)

    assert done.exit_code == 0, done.output
    assert read_bundle(out, check=trusted(key)).manifest.version == "v1"
