"""The signature beside a manifest: `manifest.sig`, 64 bytes, Ed25519 of the manifest's bytes.

The manifest holds the SHA-256 of every other file, so whoever signs it signs the whole bundle. What a signature is
worth is not decided here: this package needs no cryptography.
"""

from collections.abc import Callable
from pathlib import Path

from model.bundle.errors import BundleError

SIGNATURE = "manifest.sig"
Sign = Callable[[bytes], bytes]  # a manifest -> its signature
ManifestCheck = Callable[[bytes, bytes | None], None]  # of a manifest and its signature; raises BundleError
_MOST = 128  # bytes read: more than a signature has, so that a longer file is none


def read_signature(folder: Path) -> bytes | None:
    """What is beside the manifest, None if nothing is. Raises BundleError if it cannot be read."""
    try:
        with (folder / SIGNATURE).open("rb") as file:
            return file.read(_MOST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(SIGNATURE, f"cannot be read: {error.strerror}") from error
