"""Who belongs to a share: the same answer in every process, without keeping anything."""

from hashlib import blake2b

_HASHES = 2**64


def in_share(key: str, *, percent: float) -> bool:
    """Whether `key` is among the `percent` (0 to 100) of all keys that were chosen by hash.

    A larger share keeps every key of a smaller one. Put a salt before the key for choices that do not depend on each
    other.
    """
    hashed = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
    return hashed < percent / 100 * _HASHES
