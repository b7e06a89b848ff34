"""Which version serves: small files beside the versions, each replaced in one step.

bundles/<name>/stable            its text is a version
bundles/<name>/canary            another version, for a part of the users
bundles/<name>/stable.previous   what `stable` named before, so that one step back is possible
"""

import os
import re
from pathlib import Path

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST

STABLE, CANARY = POINTERS = ("stable", "canary")
PREVIOUS = f"{STABLE}.previous"
LONGEST_VERSION = 128  # bytes
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def checked_version(version: str, *, file: str) -> str:
    """`version` without white space around it. Raises BundleError naming `file` if it cannot be a folder's name."""
    stripped = version.strip()
    if not _VERSION.fullmatch(stripped):
        raise BundleError(file, f"does not name a version: {version[:80]!r}")
    return stripped


def read_pointer(root: Path, pointer: str) -> str | None:
    """The version that it names, None if there is no such file. Raises BundleError if it cannot be read."""
    path = root / pointer
    try:
        with path.open("rb") as file:
            raw = file.read(2 * LONGEST_VERSION)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(str(path), f"cannot be read: {error.strerror}") from error
    return checked_version(raw.decode(errors="replace"), file=str(path))


def write_pointer(root: Path, pointer: str, version: str) -> None:
    """Point `stable` or `canary` at `version`, atomically; `stable.previous` keeps what `stable` named before.

    Raises BundleError for another pointer or a version that is not there, OSError if `root` cannot be written.
    """
    if pointer not in POINTERS:
        raise BundleError(str(root / pointer), f"not a pointer, allowed: {', '.join(POINTERS)}")
    version = checked_version(version, file=str(root / pointer))
    if not (root / version / MANIFEST).is_file():
        raise BundleError(str(root / version / MANIFEST), "not found, so nothing can point to it")
    before = _named(root, pointer)
    if pointer == STABLE and before not in (None, version):
        _replace(root, PREVIOUS, str(before))
    _replace(root, pointer, version)


def remove_pointer(root: Path, pointer: str) -> bool:
    """Take a pointer away. False if there was none. Raises OSError if `root` cannot be written."""
    try:
        (root / pointer).unlink()
    except FileNotFoundError:
        return False
    return True


def roll_back(root: Path) -> str:
    """Point `stable` at what it named before and return that; a second step back is not possible.

    Raises BundleError if there is nothing to go back to.
    """
    version = read_pointer(root, PREVIOUS)
    if version is None:
        raise BundleError(str(root / PREVIOUS), "not found: there is nothing to go back to")
    if not (root / version / MANIFEST).is_file():
        raise BundleError(str(root / version / MANIFEST), "not found, so nothing can point to it")
    _replace(root, STABLE, version)
    remove_pointer(root, PREVIOUS)  # kept, a second call would bring back what was just taken away
    return version


def list_versions(root: Path) -> list[str]:
    """Versions below `root`, by name."""
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}") if _VERSION.fullmatch(path.parent.name))


def _named(root: Path, pointer: str) -> str | None:
    try:
        return read_pointer(root, pointer)
    except BundleError:  # a spoiled pointer is mended by writing it
        return None


def _replace(root: Path, name: str, version: str) -> None:
    temporary = root / f".{name}.{os.getpid()}"
    temporary.write_text(version + "\n")
    temporary.replace(root / name)
