"""What reading a log comes to, gathered on the way: lines, malformed ones, rows left out and why. Nothing is dropped
silently.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from model.bundle.errors import ConfigError
from model.data.text_names import TextNames

_EXAMPLES = 5  # malformed lines that are told of each file


@dataclass(kw_only=True)
class FileRead:
    """One file: its lines or rows so far, how many were malformed, and number and text of the first few of those."""

    lines: int = 0
    malformed: int = 0
    examples: list[tuple[int, str]] = dataclasses.field(default_factory=list)


def _silent(file: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


@dataclass(kw_only=True)
class Reading:
    """Given to a reader, which writes into it.

    max_malformed  largest share of a file's lines that may be malformed
    report     called with a file's name, bytes read, and its size or None, after each block
    block_bytes  how much of a text file is parsed at a time
    left_out   why rows were left out -> how many
    names      column -> the text ids that became integers
    """

    max_malformed: float = 0.001
    report: Callable[[str, int, int | None], None] = _silent
    block_bytes: int = 1 << 25
    files: dict[str, FileRead] = dataclasses.field(default_factory=dict)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    names: dict[str, TextNames] = dataclasses.field(default_factory=dict)

    def took(self, file: object, lines: int) -> None:
        """Take note of lines that were read, malformed ones included."""
        self._file(file).lines += lines

    def malformed(self, file: object, found: list[tuple[int, str]]) -> None:
        """Take note of malformed lines: number, counted from 1, and text."""
        read = self._file(file)
        read.malformed += len(found)
        room = max(_EXAMPLES - len(read.examples), 0)
        read.examples += [(number, text[:200]) for number, text in found[:room]]

    def leave_out(self, why: str, rows: int) -> None:
        """Take note of rows that are no part of the log."""
        if rows:
            self.left_out[why] += rows

    def finish(self, file: object, *, allowed: str) -> None:
        """Raise ConfigError if more of the file's lines are malformed than may be; it shows the first one."""
        read = self._file(file)
        if read.malformed <= self.max_malformed * read.lines:
            return
        number, text = read.examples[0]
        limit = f"{allowed}; {read.malformed} of {read.lines} malformed, data.max_malformed = {self.max_malformed:g}"
        raise ConfigError(file=str(file), key=f"line {number}", found=text, allowed=limit)

    @property
    def lines(self) -> int:
        """Lines of all files."""
        return sum(read.lines for read in self.files.values())

    def _file(self, file: object) -> FileRead:
        return self.files.setdefault(str(file), FileRead())
