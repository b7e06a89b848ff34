"""Signs bundles with Ed25519. Needs the extra `signing`; openssl makes the same signatures (docs/bundle.md)."""

import os
from pathlib import Path
from typing import Annotated

import typer

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.signature import SIGNATURE, Sign
from model.terminal import clear_errors, console


def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a folder with a `stable` pointer.")],
    key: Annotated[Path, typer.Option(help="Ed25519 private key in PEM, without a password.")],
) -> None:
    """Verify a bundle's checksums and write its signature, in the place of one that is there."""
    with clear_errors():
        path = sign_bundle(bundle, read_signing_key(key))
    console.print(f"wrote {path}", soft_wrap=True)


def read_signing_key(path: Path) -> Sign:
    """What signs with the private key in this PEM file.

    Raises ConfigError if that is no Ed25519 key without a password or the extra is missing, OSError if the file cannot
    be read.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  # the same
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  # the same
    except ModuleNotFoundError as error:
        found, allowed = f"no package {error.name}", "an install of ctr-scorer[signing]"
        raise ConfigError(file=str(path), key="(signing)", found=found, allowed=allowed) from error
    allowed = "an Ed25519 private key in PEM, without a password"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise ConfigError(file=str(path), key="(file)", found="something else", allowed=allowed) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(file=str(path), key="(file)", found="another kind of key", allowed=allowed)
    return key.sign


def sign_bundle(path: Path, with_key: Sign) -> Path:
    """Verify the bundle that `path` is or points to, write its signature, and return where that is.

    A signature that is there is replaced in one step; nothing else of the bundle changes. Raises BundleError if its
    checksums do not hold, OSError if it cannot be written.
    """
    bundle = read_bundle(path)
    target = bundle.path / SIGNATURE
    temporary = target.with_name(f".{SIGNATURE}.{os.getpid()}")
    temporary.write_bytes(with_key(bundle.manifest.to_bytes()))  # canonical: the bytes that were read
    temporary.replace(target)
    return target
