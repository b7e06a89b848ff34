"""Metrics of several processes behind one port: each writes files, any of them answers for all.

    share_values(place) -> every metric made from then on lives in <folder>/<kind>_<place>.db, mapped into memory
    merged(folder)      -> a registry that sums (or takes the least or most of) the files of all places

The files belong to the place, not to the process: a replacement goes on counting where the dead one stopped, so
counters never fall, and the folder does not grow with restarts. Gauges of what is alive are removed with the dead.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from service.process import Place

OF_WHAT_SERVES = ("ctr_bundle_info", "ctr_bundle_created_timestamp_seconds")
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library asks for it in the environment and nowhere else


def share_values(place: Place) -> None:
    """Keep this process's metrics in files. To be called before the first metric is made; it cannot be undone."""
    os.environ[_FOLDER] = str(place.metrics)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place.number)  # type: ignore[no-untyped-call]  # as its documentation says


def merged(folder: Path) -> CollectorRegistry:
    """A registry that reads the files of all processes whenever it is asked."""
    registry = CollectorRegistry()
    registry.register(_Merged(folder))
    return registry


def forget_dead(place: int, folder: Path) -> None:
    """Remove the gauges of a process that ended, and keep its counts. Before a replacement starts in its place."""
    mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]  # the library's own is untyped


class _Merged(Collector):
    """All files, without the bundles that no process serves any more: a file cannot drop a label, only set it to 0."""

    def __init__(self, folder: Path) -> None:
        self._all = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]  # the library's own

    def collect(self) -> Iterator[Metric]:
        found: Iterable[Metric] = self._all.collect()  # type: ignore[no-untyped-call]  # the library's own
        for metric in found:
            if metric.name in OF_WHAT_SERVES:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


class ProcessUsage:
    """Memory, CPU time and open files, which the library does not report for several processes; here, their sums."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Metrics by the names that a process on its own has."""
        self._own = ProcessCollector(registry=None)
        self._gauges = {
            name: Gauge(name, f"{meaning}, all processes.", registry=registry, multiprocess_mode="livesum")
            for name, meaning in (
                ("process_resident_memory_bytes", "Resident memory in bytes"),
                ("process_virtual_memory_bytes", "Virtual memory in bytes"),
                ("process_open_fds", "Open files"),
            )
        }
        self._cpu = Counter("process_cpu_seconds", "User and system CPU seconds, all processes.", registry=registry)
        self._cpu_counted = 0.0

    def refresh(self) -> None:
        """Read this process's figures from /proc."""
        for metric in self._own.collect():
            for sample in metric.samples:
                if sample.name in self._gauges:
                    self._gauges[sample.name].set(sample.value)
                elif sample.name == "process_cpu_seconds_total":
                    self._cpu.inc(max(0.0, sample.value - self._cpu_counted))
                    self._cpu_counted = sample.value
