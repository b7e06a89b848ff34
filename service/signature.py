"""Checks signatures of manifests with Ed25519. The only file of the service that imports `cryptography`."""

import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from model.bundle.signature import SIGNATURE

_BLOCK = re.compile(rb"-----BEGIN .*?-----END [^\n]*", re.DOTALL)


class TrustedKeys:
    """Public keys, each as good as the others, so that a new one can come before the old one goes."""

    def __init__(self, pem: bytes) -> None:
        """`pem` has one key after the other. Raises ValueError if there is none, or anything else among them."""
        self._keys = [_public_key(block) for block in _BLOCK.findall(pem)]
        if not self._keys:
            raise ValueError("holds no public key in PEM")

    def __call__(self, manifest: bytes, signature: bytes | None) -> None:
        """Pass if one of the keys signed `manifest`. Raises BundleError."""
        if signature is None:
            raise BundleError(SIGNATURE, "not found: the bundle is not signed, and signatures are asked for")
        for key in self._keys:
            try:
                key.verify(signature, manifest)
            except InvalidSignature:
                continue
            return
        raise BundleError(SIGNATURE, f"none of the trusted keys signed this {MANIFEST}")


def _public_key(block: bytes) -> Ed25519PublicKey:
    allowed = "must hold Ed25519 public keys in PEM and nothing else"
    try:
        key = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(allowed) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(allowed)
    return key
