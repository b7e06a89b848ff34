"""Bundles behind a URL: pointers and manifests are read there, new versions are copied to a cache folder.

cache/<hash of the URL>/<version>-<hash of manifest and signature>/    written to a temporary folder, verified, renamed

A copy is used only if its manifest is the remote one, and every file is checked against that, so the cache need not be
trusted. Several processes may share it.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle
from model.bundle.manifest import MANIFEST, manifest_from_bytes
from model.bundle.pointers import CANARY, STABLE, checked_version
from model.bundle.signature import SIGNATURE, ManifestCheck
from service.source import ROLES, Role, Wanted, fingerprint

KEEP = 3  # versions in the cache: what serves, what may be rolled back to, and the next
_ABANDONED_S = 3600.0  # a copy that takes longer than this belongs to a process that was killed
_UNFINISHED = ".fetching-"
# What the file systems of fsspec call the things that change with a file's content.
_TELLING = ("size", "ETag", "etag", "LastModified", "last_modified", "mtime", "md5Hash", "generation", "created")

T = TypeVar("T")


class RemoteSource:
    """A bundle, or the place above it with pointers, at a URL that fsspec can read."""

    root = None  # pointers at a URL are moved by whoever writes there

    def __init__(self, url: str, *, cache: Path, check: ManifestCheck | None = None) -> None:
        """Nothing but its manifest and signature is read of a bundle that `check` refuses.

        Raises ImportError or ValueError if there is no library for this kind of URL.
        """
        self._check = check
        self._fs: Any  # fsspec has no types
        self._fs, self._base = fsspec.core.url_to_fs(url)
        self._base = self._base.rstrip("/")
        self._cache = cache / hashlib.sha256(url.encode()).hexdigest()[:16]

    def look(self) -> Mapping[Role, Wanted]:
        """See BundleSource."""
        self._fs.invalidate_cache()  # of listings
        if self._read(self._base, MANIFEST) is not None:
            return {"stable": self._wanted(self._base, pointed=False)}
        names = {"stable": self._pointer(STABLE), "canary": self._pointer(CANARY)}
        if names["stable"] is None:
            raise BundleError(f"{self._base}/{MANIFEST}", "not found, and there is no `stable` pointer either")
        found = {role: f"{self._base}/{name}" for role in ROLES if (name := names[role]) is not None}
        return {role: self._wanted(folder, pointed=True) for role, folder in found.items()}

    def fetch(self, wanted: Wanted) -> Path:
        """See BundleSource. A verified copy, made now unless there is one."""
        raw = self._read(wanted.location, MANIFEST)
        if raw is None:
            raise BundleError(f"{wanted.location}/{MANIFEST}", "not found")
        signature = self._read(wanted.location, SIGNATURE)
        if self._check is not None:
            self._check(raw, signature)
        stated = {MANIFEST: raw} if signature is None else {MANIFEST: raw, SIGNATURE: signature}
        folder = self._cache / f"{wanted.version}-{hashlib.sha256(b''.join(stated.values())).hexdigest()[:16]}"
        self._make_cache()
        if not self._is_good(folder, raw):
            self._copy(wanted.location, folder, stated)
        os.utime(folder)  # used last
        self._prune(folder)
        return folder

    def versions(self) -> list[str]:
        """See BundleSource."""
        base, suffix = f"{self._base}/", f"/{MANIFEST}"
        files: list[str] = self._call(self._base, lambda: self._fs.glob(f"{base}*{suffix}"))
        return sorted(path.removesuffix(suffix).rpartition("/")[2] for path in files)

    def _pointer(self, name: str) -> str | None:
        raw = self._read(self._base, name)
        return None if raw is None else checked_version(raw.decode(errors="replace"), file=f"{self._base}/{name}")

    def _wanted(self, folder: str, *, pointed: bool) -> Wanted:
        manifest = self._read(folder, MANIFEST) or b""
        files: dict[str, dict[str, object]] = self._call(folder, lambda: self._fs.find(folder, detail=True))
        listing = [(path, *(str(files[path].get(key)) for key in _TELLING)) for path in sorted(files)]
        version, content = folder.rpartition("/")[2], fingerprint(manifest, listing)
        return Wanted(version=version, location=folder, content=content, pointed=pointed)

    def _make_cache(self) -> None:
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self._cache.stat().st_uid
        except OSError as error:
            raise BundleError(str(self._cache), f"cannot be made: {error.strerror}") from error
        if owner != os.geteuid():  # who could change a copy between its check and its use
            raise BundleError(str(self._cache), "belongs to another user")

    def _is_good(self, folder: Path, manifest: bytes) -> bool:
        """Whether there is a verified copy; one that is not is removed."""
        try:
            read_bundle(folder, check=self._check)
            if (folder / MANIFEST).read_bytes() == manifest:
                return True
        except (OSError, BundleError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def _copy(self, location: str, folder: Path, stated: Mapping[str, bytes]) -> None:
        """Write `stated`, the manifest and its signature, and the files that it names."""
        manifest = stated[MANIFEST]
        copying = Path(tempfile.mkdtemp(dir=self._cache, prefix=_UNFINISHED))
        try:
            for name in manifest_from_bytes(manifest).files:
                if not (copying / name).resolve().is_relative_to(copying.resolve()):
                    raise BundleError(MANIFEST, f"names a file outside the bundle: {name[:80]!r}")
                self._get(location, name, copying / name)
            for name, raw in stated.items():
                (copying / name).write_bytes(raw)
            read_bundle(copying, check=self._check)
            copying.rename(folder)
        except OSError as error:
            if not self._is_good(folder, manifest):  # else another process was faster
                raise BundleError(str(folder), f"cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(copying, ignore_errors=True)

    def _get(self, location: str, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._call(f"{location}/{name}", lambda: self._fs.get_file(f"{location}/{name}", str(target)))

    def _prune(self, used: Path) -> None:
        now = used.stat().st_mtime
        for path in self._cache.glob(f"{_UNFINISHED}*"):
            if path.stat().st_mtime < now - _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
        copies = [path for path in self._cache.iterdir() if not path.name.startswith(_UNFINISHED)]
        copies.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in copies[KEEP:]:
            shutil.rmtree(path, ignore_errors=True)

    def _read(self, folder: str, name: str) -> bytes | None:
        path = f"{folder}/{name}"
        try:
            raw: bytes = self._fs.cat_file(path)
        except (FileNotFoundError, IsADirectoryError):
            return None
        except Exception as error:
            raise BundleError(path, f"cannot be read: {type(error).__name__}") from error
        return raw

    def _call(self, path: str, work: Callable[[], T]) -> T:
        """`work`, whose errors may quote a signed URL: only their type is repeated."""
        try:
            return work()
        except Exception as error:
            raise BundleError(path, f"cannot be read: {type(error).__name__}") from error
