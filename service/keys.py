"""Keys that callers prove themselves with: several at once, so that they can be replaced one after the other.

A file of keys is read again every few seconds, because a secret that is mounted changes in place:

    old key -> add the new one -> callers change over -> take the old one out
"""

import asyncio
import hmac
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from structlog.typing import FilteringBoundLogger

LOOK_S = 2.0
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{16,256}")  # no comma, which stands between keys
_ALLOWED = "keys of 16 to 256 printable ASCII characters without spaces and commas"
_MOST_BYTES, _MOST_KEYS = 64 * 1024, 100


def parse_keys(text: str) -> list[str]:
    """The keys, with commas or line ends between; lines that begin with # are comments. Raises ValueError.

    Neither the error nor anything else repeats what was found.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys = [key for line in lines for part in line.split(",") if (key := part.strip())]
    if not keys or len(keys) > _MOST_KEYS or not all(map(_KEY.fullmatch, keys)):
        raise ValueError(f"must hold 1 to {_MOST_KEYS} {_ALLOWED}")
    return keys


def read_keys(file: Path) -> list[str]:
    """The keys of a file. Raises OSError, or ValueError as `parse_keys` does."""
    with file.open("rb") as opened:
        raw = opened.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise ValueError(f"must have at most {_MOST_BYTES} bytes")
    try:
        return parse_keys(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise ValueError(f"must hold {_ALLOWED}") from None


class Keys:
    """The keys that count now. Only their digests are kept, which all have one length."""

    def __init__(self, keys: Iterable[str], *, file: Path | None = None) -> None:
        """`file` is where `keys` came from, to be looked at again by `follow`."""
        self._digests = _digests(keys)
        self._file = file
        self._trouble = ""

    def accepts(self, sent: bytes) -> bool:
        """Whether that is one of them. Takes the same time whatever was sent and whichever matches."""
        digest, found = sha256(sent).digest(), False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found

    async def follow(self, log: FilteringBoundLogger, *, setting: str, every_s: float = LOOK_S) -> None:
        """Look at the file again and again until cancelled. One that cannot be used changes nothing."""
        while self._file is not None:
            await asyncio.sleep(every_s)
            try:
                digests = _digests(await asyncio.to_thread(read_keys, self._file))
            except (OSError, ValueError) as error:
                self._tell(log, setting, str(error.strerror if isinstance(error, OSError) else error))
                continue
            self._trouble = ""
            if digests != self._digests:
                self._digests = digests
                log.info("keys changed", setting=setting, keys=len(digests))

    def _tell(self, log: FilteringBoundLogger, setting: str, trouble: str) -> None:
        """Once for each trouble."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("keys kept: their file cannot be used", setting=setting, error=trouble)


def _digests(keys: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(sorted({sha256(key.encode()).digest() for key in keys}))
