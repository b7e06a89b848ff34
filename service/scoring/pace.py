"""How fast the threads are: a running mean of seconds per candidate row."""

USER_ROWS = 25  # rows that the user half of a request costs as much as (benchmarks/results/joining)
_MEMORY = 0.98  # what a batch leaves of the sums before it
_FIRST_ROWS = 500  # nothing is known before so many
_OUTLIER = 4.0  # a batch counts at most so many times the mean: a pause of the machine is not its speed


class Pace:
    """Seconds over rows, in decaying sums: a single row with a high rate says little about hundreds of others."""

    def __init__(self) -> None:
        self.row_s = 0.0  # seconds of one thread per row; 0 until enough is known
        self._seconds = self._rows = 0.0

    def learn(self, seconds: float, *, rows: int, users: int) -> None:
        """A batch took `seconds` of one thread for `rows` candidates and the user halves of `users` requests."""
        cost = rows + USER_ROWS * users
        if self.row_s:
            seconds = min(seconds, _OUTLIER * self.row_s * cost)
        self._seconds = _MEMORY * self._seconds + seconds
        self._rows = _MEMORY * self._rows + cost
        if self._rows >= _FIRST_ROWS:
            self.row_s = self._seconds / self._rows
