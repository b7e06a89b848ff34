"""Metrics of what the store was asked for."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter

Operation = Literal["read", "append", "erase", "items", "marks"]
StoreOutcome = Literal["ok", "failed"]
OPERATIONS: tuple[Operation, ...] = ("read", "append", "erase", "items", "marks")
OUTCOMES: tuple[StoreOutcome, ...] = ("ok", "failed")


class StoreMetrics:
    """A part of Metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "ctr_store_operations",
            "What the store was asked for, by what became of it.",
            ["operation", "outcome"],
            registry=registry,
        )
        self._operations = {
            (operation, outcome): counter.labels(operation, outcome) for operation in OPERATIONS for outcome in OUTCOMES
        }

    def done(self, operation: Operation, outcome: StoreOutcome) -> None:
        """Count an operation that has ended."""
        self._operations[operation, outcome].inc()
