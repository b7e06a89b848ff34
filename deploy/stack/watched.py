"""What the stack's Prometheus knows."""

from urllib.parse import quote

from deploy.stack.compose import Stack, until

JOBS = ("ctr-service", "ctr-consumer")
SERIES = ("ctr_scored_total", "ctr_phase_seconds_count", "ctr_bundle_info", "ctr_store_circuit", "ctr_events_lag")


def value(stack: Stack, query: str) -> float:
    """The sum of what a query gives; 0 of nothing."""
    found = stack.ask("PROMETHEUS_PORT", f"/api/v1/query?query={quote(query)}")
    return sum(float(one["value"][1]) for one in found["data"]["result"])


def wait_until_watched(stack: Stack) -> float:
    """Seconds until both jobs are up, every series is there and every rule was evaluated without an error."""
    queries = [*(f'up{{job="{job}"}}' for job in JOBS), *(f"count({name})" for name in SERIES)]
    return until(lambda: all(value(stack, query) for query in queries) and _rules_hold(stack), "Prometheus sees it all")


def _rules_hold(stack: Stack) -> bool:
    groups = stack.ask("PROMETHEUS_PORT", "/api/v1/rules")["data"]["groups"]
    health = {rule["health"] for group in groups for rule in group["rules"]}
    return health == {"ok"}
