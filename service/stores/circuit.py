"""When to leave a server alone that does not answer. Pure: moments come in, decisions go out.

    closed --`failures` in a row--> open --a probe that succeeds--> closed
                                     | a probe that fails: wait twice as long

While it is open nobody but the probe asks the server, so a dead one costs a request no time, and one that comes back
is not met by everybody at once.
"""

FIRST_PAUSE_S = 0.05  # a server that only stumbled is asked again soon
LONGEST_PAUSE_S = 2.0


class Circuit:
    """Counts failures in a row. `failures` 0: never opens."""

    def __init__(self, *, failures: int) -> None:
        self._limit = failures
        self._failed = 0
        self._pause_s = FIRST_PAUSE_S
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the server is to be left alone."""
        return self._probe_at is not None

    def failed(self, now: float) -> None:
        """A request failed. One that began before the circuit opened changes nothing any more."""
        if self.is_open:
            return
        self._failed += 1
        if self._failed == self._limit:
            self._probe_at = now + self._pause_s

    def succeeded(self) -> None:
        """The server answered, a request or a probe."""
        self._failed = 0
        self._pause_s = FIRST_PAUSE_S
        self._probe_at = None

    def probe_due_in(self, now: float) -> float | None:
        """Seconds until the next probe, at least 0; None: none is needed."""
        return None if self._probe_at is None else max(0.0, self._probe_at - now)

    def probe_failed(self, now: float) -> None:
        """A probe had no answer."""
        if self.is_open:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._probe_at = now + self._pause_s
