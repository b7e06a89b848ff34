"""Where the bytes of a log come from: files of this machine, or behind a URL that fsspec can read; in whole lines."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from model.bundle.errors import ConfigError
from model.data.reading import Reading


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL. `fs` is the file system of fsspec, which has no types."""

    fs: Any
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        """As a URL, for messages."""
        return str(self.fs.unstrip_protocol(self.path))


File = Path | RemoteFile


def find_files(place: Path | str, suffixes: tuple[str, ...]) -> list[File]:
    """The file at `place`, or the files in that folder whose names end in one of `suffixes`, by name.

    A string is a URL. Raises ConfigError if there is none.
    """
    found = _local(place) if isinstance(place, Path) else _remote(place)
    files = [file for file in found if file.name.removesuffix(".gz").endswith(suffixes)]
    if not files:
        names = [file.name for file in found][:10] or "nothing there"
        raise ConfigError(file=str(place), key="file", found=names, allowed="files that end in " + ", ".join(suffixes))
    return files


@contextmanager
def opened(file: File) -> Iterator[IO[bytes]]:
    """The file for reading. Raises ConfigError if it cannot be read, then or later."""
    try:
        with file.open("rb") if isinstance(file, Path) else file.fs.open(file.path, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise ConfigError(file=str(file), key="file", found="nothing there", allowed="a readable file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(file=str(file), key="file", found=str(error), allowed="a readable file") from error


def line_blocks(file: File, reading: Reading) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with the number of its first line; every line ends in a newline.

    A name that ends in .gz is unpacked. Tells `reading` how far it is. Raises ConfigError naming the file if it cannot
    be read.
    """
    number, rest = 1, b""
    with opened(file) as stream:
        packed = file.name.endswith(".gz")
        size = _size(file)
        # A gzip file tells its place in the packed bytes by the stream below it.
        content = gzip.GzipFile(fileobj=stream) if packed else stream
        while block := content.read(reading.block_bytes):
            reading.report(file.name, stream.tell(), size)
            whole, newline, tail = block.rpartition(b"\n")
            if not newline:
                rest += block
                continue
            lines = rest + whole + newline
            yield number, lines
            number += lines.count(b"\n")
            rest = tail
    if rest:
        yield number, rest + b"\n"


def _local(place: Path) -> list[File]:
    if place.is_dir():
        return [*sorted(path for path in place.iterdir() if path.is_file())]
    return [place] if place.is_file() else []


def _remote(url: str) -> list[File]:
    try:
        import fsspec  # noqa: PLC0415  # an optional dependency
    except ImportError as error:
        allowed = "an install of ctr-scorer[object-store]"
        raise ConfigError(file=url, key="data.url", found="no fsspec", allowed=allowed) from error
    try:
        fs, path = fsspec.core.url_to_fs(url)
        paths = [path] if fs.isfile(path) else sorted(fs.find(path, maxdepth=1))
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(file=url, key="data.url", found=str(error), allowed="a URL that fsspec can read") from error
    return [RemoteFile(fs, one) for one in paths]


def _size(file: File) -> int | None:
    return file.stat().st_size if isinstance(file, Path) else file.fs.size(file.path)
