"""Metrics of a serving process and its compute threads.

Every gauge says how several processes are merged (`multiprocess_mode`); counters are summed.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCH_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class ProcessMetrics:
    """Whether it lives, is ready and is busy, and what it lost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.thread_crashes = Counter(
            "ctr_thread_crashes", "Compute threads that crashed; the first is replaced.", registry=registry
        )
        self.restarts = Counter("ctr_process_restarts", "Processes that replaced a dead one.", registry=registry)
        self.living = Gauge(
            "ctr_processes", "Serving processes that live.", registry=registry, multiprocess_mode="livesum"
        )
        self.in_flight = Gauge(
            "ctr_in_flight", "Requests being answered now.", registry=registry, multiprocess_mode="livesum"
        )
        self.rows = Gauge(
            "ctr_rows", "Candidate rows waiting or being computed now.", registry=registry, multiprocess_mode="livesum"
        )
        self.batch_rows = Histogram(
            "ctr_batch_rows",
            "Candidate rows that a thread computed in one go.",
            buckets=_BATCH_EDGES,
            registry=registry,
        )
        self.store_circuit = Gauge(
            "ctr_store_circuit",
            "Servers of the store that are left alone because they did not answer.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.ready = Gauge(
            "ctr_ready",
            "1 if a verified bundle serves and the workers live.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._lost_lines = Counter("ctr_log_lines_lost", "Log lines that could not be written.", registry=registry)
        self._lines_counted = 0

    def log_lines_lost(self, total: int) -> None:
        """Catch up with how many lines this process's log has lost so far."""
        self._lost_lines.inc(total - self._lines_counted)
        self._lines_counted = total
