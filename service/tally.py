"""What is cheap to count in: a few plain numbers, moved into the library's metrics now and then.

The library's own take a lock, walk their buckets and touch some dozens of objects per value. After the net has filled
the processor's caches with its weights, a request's ten of those cost 3 % of it.
"""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Histogram


class Tally:
    """For one thread. What is counted is shown after `show`."""

    def __init__(self, histogram: Histogram, edges: Sequence[float]) -> None:
        """`histogram` has these `edges`, and its labels if there are any."""
        self._histogram = histogram
        self._edges = tuple(edges)
        self._counts = [0] * (len(self._edges) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value, in the bucket that ends at it or above."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._total += value

    def add(self, counts: Sequence[int], *, total: float) -> None:
        """Count many: how many in each bucket, the one without end included, and their sum."""
        self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
        self._total += total

    def show(self) -> None:
        """Move what was counted into the histogram, which has no public way to take many values at once."""
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        if self._total:
            self._histogram._sum.inc(self._total)
        self._counts = [0] * len(self._counts)
        self._total = 0.0
