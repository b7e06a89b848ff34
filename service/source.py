"""Where bundles come from: what should serve now, and a folder to load it from.

A source is asked again and again, so it looks at pointers, the manifest and the list of files, and reads nothing else.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import CANARY, STABLE, list_versions, read_pointer
from model.bundle.signature import ManifestCheck
from service.config import SettingsError

Role = Literal["stable", "canary"]
ROLES: tuple[Role, ...] = ("stable", "canary")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A version that should serve. Equal ones have equal content, as far as a list of files can tell."""

    version: str  # its folder's name
    location: str  # path or URL of its folder
    content: str  # fingerprint of manifest and list of files
    pointed: bool  # a pointer named it, rather than the configuration


class BundleSource(Protocol):
    """Blocking, for one thread at a time. Raises BundleError for whatever it finds or does not find."""

    def look(self) -> Mapping[Role, Wanted]:
        """What should serve, by role; there is always a stable one."""
        ...

    def fetch(self, wanted: Wanted) -> Path:
        """A folder of this machine with that version's files."""
        ...

    def versions(self) -> list[str]:
        """The versions that pointers could name; none where one bundle was configured."""
        ...

    @property
    def root(self) -> Path | None:
        """The folder whose pointers can be moved from here, if there is one."""
        ...


class LocalSource:
    """A bundle's folder, the folder above it with pointers, or a pointer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def root(self) -> Path | None:
        """The folder with the pointers."""
        return self._path if self._path.is_dir() and not (self._path / MANIFEST).is_file() else None

    def look(self) -> Mapping[Role, Wanted]:
        """See BundleSource."""
        path = self._path
        if (path / MANIFEST).is_file():
            return {"stable": _wanted(path, pointed=False)}
        root, stable = (path, STABLE) if path.is_dir() else (path.parent, path.name)
        names = {"stable": read_pointer(root, stable), "canary": read_pointer(root, CANARY) if root == path else None}
        if names["stable"] is None:
            raise BundleError(str(path / MANIFEST), "not found, and there is no `stable` pointer either")
        return {role: _wanted(root / name, pointed=True) for role in ROLES if (name := names[role]) is not None}

    def fetch(self, wanted: Wanted) -> Path:
        """See BundleSource. It is here already."""
        return Path(wanted.location)

    def versions(self) -> list[str]:
        """See BundleSource."""
        return list_versions(self.root) if self.root else []


def open_source(bundle: str, *, cache: str, check: ManifestCheck | None = None) -> BundleSource:
    """The source that CTR_BUNDLE names: a path, or a URL whose bundles are copied to `cache`, by default a folder for
    temporary files, if `check` passes their manifests.

    Raises SettingsError if a URL cannot be used because its library is not installed.
    """
    if not is_url(bundle):
        return LocalSource(Path(bundle))
    try:
        from service.fetch import RemoteSource  # noqa: PLC0415  # fsspec is an optional dependency

        return RemoteSource(bundle, cache=Path(cache) if cache else _default_cache(), check=check)
    except (ImportError, ValueError) as error:
        scheme = bundle.partition("://")[0]
        hint = f"a {scheme}:// URL needs fsspec and its library for {scheme}: install ctr-scorer[object-store]"
        raise SettingsError([f"CTR_BUNDLE: {hint} ({error})"]) from error


def is_url(bundle: str) -> bool:
    """Whether it is a URL rather than a path."""
    return _URL.match(bundle) is not None


def fingerprint(manifest: bytes, listing: object) -> str:
    """A short text that changes with the manifest or with the list of files."""
    return hashlib.sha256(manifest + repr(listing).encode()).hexdigest()


def _wanted(folder: Path, *, pointed: bool) -> Wanted:
    try:
        manifest = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
        stats = [(str(path.relative_to(folder)), path.stat()) for path in folder.rglob("*") if path.is_file()]
    except OSError as error:
        raise BundleError(str(folder), f"cannot be listed: {error.strerror}") from error
    listing = sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    content = fingerprint(manifest, listing)
    return Wanted(version=folder.name, location=str(folder), content=content, pointed=pointed)


def _default_cache() -> Path:
    return Path(tempfile.gettempdir(), f"ctr-bundles-{os.getuid()}")
