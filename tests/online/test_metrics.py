"""Metrics: counted once, in closed sets of labels, with an edge at the promised latency."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from model.bundle.records import Behaviors
from service.bundle_metrics import BundleFacts
from service.errors import ServiceError
from service.metrics import PHASES, Metrics
from service.stores.base import StoreError
from service.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

GOOD = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 9_999}]}


class Down(MemoryStore):
    """A store that refuses."""

    async def read(self, user_id: int | str, *, limit: int, timeout_s: float, actions: object = None) -> Behaviors:
        """Fail."""
        raise StoreError("down")


async def samples(client) -> dict[tuple[str, ...], float]:
    """What /metrics says, by name and label values in the order of the labels' names."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    found = [sample for family in families for sample in family.samples]
    return {(s.name, *(value for _, value in sorted(s.labels.items()))): s.value for s in found}


async def test_a_request_is_counted_where_it_belongs(serve):
    """One good request, explained: every phase once, two candidates, one unknown item, a known user, no refusal."""
    async with serve() as client:
        await client.post("/score", json={**GOOD, "explain": True})
        found = await samples(client)

    assert [found["ctr_phase_seconds_count", phase] for phase in PHASES] == [1.0] * len(PHASES)
    assert found["ctr_requests_total", "200", "/score"] == 1
    assert found["ctr_scored_total", "none"] == 1
    assert (found["ctr_candidates_count",], found["ctr_candidates_sum",]) == (1, 2)
    assert (found["ctr_batch_rows_count",], found["ctr_batch_rows_sum",]) == (2, 4)  # scores and explanation
    assert (found["ctr_pctr_count", "stable"], found["ctr_pctr_count", "canary"]) == (2, 0)
    assert (found["ctr_unknown_items_total",], found["ctr_unknown_users_total",]) == (1, 0)
    assert (found["ctr_history_length_bucket", "0.0"], found["ctr_history_length_count",]) == (1, 1)
    assert found["ctr_store_operations_total", "read", "ok"] == 1
    assert found["ctr_bundle_info", "tiny", "stable", "v1"] == 1
    assert found["ctr_bundle_load_seconds_count",] == 1
    assert (found["ctr_ready",], found["ctr_rows",]) == (1, 0)
    assert found["ctr_in_flight",] == 1  # the request for the metrics
    assert found["ctr_deadline_misses_total",] == 0
    assert {value for (name, *_), value in found.items() if name == "ctr_refused_total"} == {0}
    assert found["process_resident_memory_bytes",] > 0


async def test_a_feature_that_training_lacked_is_counted_apart_from_an_item(serve):
    """A known item with an unknown category is one, an unknown item is not, and a history has its length."""
    candidates = {"item_id": [100, 9_999, 101], "cate_id": [99, 10, 10]}
    async with serve() as client:
        request = {"user_id": 1, "candidates": candidates, "history": [{"item_id": 100}, {"item_id": 101}]}
        scores = (await client.post("/score", json=request)).json()["scores"]
        found = await samples(client)

    assert [score["status"] for score in scores] == ["unknown_feature", "unknown_item", "ok"]
    assert (found["ctr_unknown_features_total",], found["ctr_unknown_items_total",]) == (1, 1)
    assert found["ctr_history_length_sum",] == 2


async def test_a_deadline_that_passed_is_counted(serve):
    """Of a request in time, one without any time and one that is refused for its body, only the second has missed."""
    async with serve() as client:
        await client.post("/score", json=GOOD)
        late = await client.post("/score", json=GOOD, headers={"X-Deadline-Ms": "0.0001"})
        await client.post("/score", content=b"{")
        found = await samples(client)

    assert late.status_code == 504
    assert found["ctr_deadline_misses_total",] == 1
    assert found["ctr_refused_total", "deadline_exceeded"] == 1


async def test_scores_without_a_history_or_a_net_are_no_drift(serve):
    """What a store that is down leads to is counted as degraded, and kept out of the scores that are compared."""
    async with serve(store=Down(history_keep=1)) as client:
        await client.post("/score", json=GOOD)
        found = await samples(client)

    assert found["ctr_scored_total", "history"] == 1
    assert found["ctr_pctr_count", "stable"] == 0


async def test_the_promise_is_an_edge(serve):
    """The time histogram has a bucket that ends exactly at the SLO, whatever it is."""
    async with serve(slo_s=0.0333) as client:
        await client.post("/score", json=GOOD)
        found = await samples(client)

    assert ("ctr_phase_seconds_bucket", "0.0333", "total") in found


async def test_unknown_paths_share_a_label(serve):
    """A caller cannot make new time series by asking for new paths."""
    async with serve() as client:
        for path in ("/a", "/b", "/score/x"):
            await client.get(path)
        found = await samples(client)

    assert found["ctr_requests_total", "404", "other"] == 3
    assert {key[2] for key in found if key[0] == "ctr_requests_total"} <= {"other", "/readyz", "/score"}


async def test_refusals_and_degradation_are_counted_by_reason(serve):
    """A bad body, a body too large, and a store that is down each have their counter."""
    async with serve(store=Down(history_keep=1)) as client:
        await client.post("/score", content=b"{")
        await client.post("/score", json={**GOOD, "candidates": [{"item_id": 1}] * 2001})
        await client.post("/score", json=GOOD)
        found = await samples(client)

    assert (found["ctr_refused_total", "invalid_request"], found["ctr_refused_total", "too_large"]) == (1, 1)
    assert (found["ctr_scored_total", "history"], found["ctr_scored_total", "none"]) == (1, 0)
    assert found["ctr_store_operations_total", "read", "failed"] == 1


def test_the_bundle_gauge_shows_what_serves():
    """After a change only the bundles that serve are there, one per role."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=("/score",))
    metrics.bundles.serve([BundleFacts(name="din", version="v1", role="stable")])
    served = (("v2", "stable"), ("v3", "canary"))
    metrics.bundles.serve([BundleFacts(name="din", version=version, role=role) for version, role in served])

    (info,) = (family for family in metrics.registry.collect() if family.name == "ctr_bundle_info")
    shown = {(*sample.labels.values(), sample.value) for sample in info.samples}
    assert shown == {("din", "v2", "stable", 1.0), ("din", "v3", "canary", 1.0)}


def test_a_bundle_has_an_age_if_it_says_when_it_was_made():
    """The time of export is there for as long as the bundle serves; a bundle that does not tell has none."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=("/score",))
    names = {"name": "din", "role": "stable"}
    found = []
    for version, created in (("v1", 1_700_000_000), ("v2", None)):
        metrics.bundles.serve([BundleFacts(version=version, created=created, **names)])
        labels = {**names, "version": "v1"}
        found.append(metrics.registry.get_sample_value("ctr_bundle_created_timestamp_seconds", labels))

    assert found == [1_700_000_000, None]
    (created,) = (f for f in metrics.registry.collect() if f.name == "ctr_bundle_created_timestamp_seconds")
    assert created.samples == []


def test_labels_come_from_closed_sets():
    """A status or a reason that nobody has thought of is counted, under a name that was there from the start."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=("/score",))
    for route, code in (("/score", 418), ("/score", 200), ("/score", 200), ("/made-up", 200)):
        metrics.request(route, code)
    metrics.refused("made_up")

    counted = {(s.labels["route"], s.labels["code"]): s.value for s in of(metrics, "ctr_requests") if s.value}
    assert counted == {("/score", "other"): 1, ("/score", "200"): 2, ("other", "200"): 1}
    reasons = {s.labels["reason"]: s.value for s in of(metrics, "ctr_refused")}
    assert reasons["other"] == 1
    assert {error.error_type for error in ServiceError.__subclasses__()} <= reasons.keys()


def of(metrics: Metrics, name: str) -> list[Sample]:
    """The samples of a counter, without the times of their first values."""
    (family,) = (family for family in metrics.registry.collect() if family.name == name)
    return [sample for sample in family.samples if sample.name.endswith("_total")]
