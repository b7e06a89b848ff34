"""What the app is told about the process that it runs in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.drain import Drain


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a serving process among several behind one port. A replacement takes the place of the dead."""

    number: int  # from 0
    restarted: bool
    metrics: Path  # folder where all of them keep their metrics

    @property
    def joins_when_ready(self) -> bool:
        """Whether it listens only once it can score. The very first process answers probes from the start instead."""
        return self.number > 0 or self.restarted


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process: how it ends, what its log lost, and its place if it is one of several."""

    drain: Drain = field(default_factory=Drain)
    lost_lines: Callable[[], int] = lambda: 0
    place: Place | None = None
