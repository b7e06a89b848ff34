"""The files of the feature log: one sequence for all processes of a machine, bounded in size.

    folder/features-<time of its first line in ms>.jsonl    the newest one is written to

Whoever writes holds a lock on the folder for a moment, so that lines are whole and limits are kept whoever writes. A
write that fails is taken back; what a killed process left of a line is closed by the next one.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PREFIX, _SUFFIX = "features-", ".jsonl"
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes and seconds after which a file is followed by another, and bytes of all files together."""

    file_bytes: int
    file_s: float
    total_bytes: int


class LogFolder:
    """Appends to, trims and erases from a folder that other processes use at the same time."""

    def __init__(self, folder: Path, *, limits: Limits, now: Callable[[], float]) -> None:
        """Make the folder, private to this user. Raises OSError. `now` in seconds since the epoch."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._limits = limits
        self._now = now
        with self._locked():
            pass

    def append(self, lines: bytes) -> None:
        """Write whole lines, and delete the oldest files to make room. Raises OSError, and then nothing is written."""
        with self._locked():
            files = self.files()
            path = self._current(files)
            self._trim([file for file in files if file != path], path, adding=len(lines))
            _append(path, lines)

    def files(self) -> list[Path]:
        """The log's files, oldest first."""
        return sorted(self._folder.glob(f"{_PREFIX}*{_SUFFIX}"), key=_number)

    def blank(self, unwanted: Callable[[bytes], bool]) -> int:
        """Overwrite every unwanted line with spaces, in place, and return how many there were. Raises OSError.

        In place: it needs no room on a full disk, and no line that others write meanwhile is lost.
        """
        return sum(self._blank(path, unwanted) for path in self.files())

    def _blank(self, path: Path, unwanted: Callable[[bytes], bool]) -> int:
        blanked = at = 0
        with self._locked():
            if not path.exists():  # trimmed
                return 0
            with path.open("r+b") as file:
                for line in file:
                    text = line.rstrip(b"\n")
                    if unwanted(text):
                        os.pwrite(file.fileno(), b" " * len(text), at)
                        blanked += 1
                    at += len(line)
        return blanked

    def _current(self, files: list[Path]) -> Path:
        now_ms = int(self._now() * 1000)
        if files:
            newest, limits = files[-1], self._limits
            if newest.stat().st_size < limits.file_bytes and now_ms - _number(newest) < limits.file_s * 1000:
                return newest
            now_ms = max(now_ms, _number(newest) + 1)
        return self._folder / f"{_PREFIX}{now_ms}{_SUFFIX}"

    def _trim(self, older: list[Path], current: Path, *, adding: int) -> None:
        sizes = {path: path.stat().st_size for path in older}
        total = adding + sum(sizes.values()) + (current.stat().st_size if current.exists() else 0)
        for path in older:
            if total <= self._limits.total_bytes:
                return
            path.unlink()
            total -= sizes[path]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _number(path: Path) -> int:
    digits = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(digits) if digits.isdigit() else 0


def _append(path: Path, lines: bytes) -> None:
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(file, view) :]
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
