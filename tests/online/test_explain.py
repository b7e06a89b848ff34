"""`explain: true`, as a caller sees it, with a net that has no attention; tests/seam has those that have."""

import asyncio

import numpy as np
import pytest

from model.bundle.records import make_behaviors
from service.runtimes.base import RuntimeFailure
from service.runtimes.fake import FakeRuntime
from service.scoring.explaining import ExplainWork

pytestmark = pytest.mark.anyio

CANDIDATE = {
    "item_id",
    "attention",
    "update",
    "logit",
    "logit_without_history",
    "history_effect",
    "unknown_features",
    "pctr_uncalibrated",
    "pctr",
}


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def body(count: int = 3, **more: object) -> dict[str, object]:
    return {"user_id": 1, "candidates": {"item_id": list(range(100, 100 + count))}, "explain": True, **more}


async def test_the_answer_is_the_plain_one_and_an_explanation(serve):
    """Scores, ranks, statuses and what is said of the user are those of the request without `explain`."""
    async with serve() as client:
        explained = (await client.post("/score", json=body())).json()
        plain = (await client.post("/score", json=body(explain=False))).json()

    assert explained.keys() - plain.keys() == {"explanation"}
    assert explained["timings_ms"].keys() - plain["timings_ms"].keys() == {"explain"}
    same = plain.keys() - {"request_id", "timings_ms"}
    assert {name: explained[name] for name in same} == {name: plain[name] for name in same}


async def test_logits_with_and_without_the_history(serve, expected_pctr):
    """Each candidate's logits are those of the net with the user's history and with none; pctr is that of `scores`."""
    history = make_behaviors([101, 102, 103], category=[10, 10, 10])
    columns = {"item_id": [100, 101, 102]}
    async with serve() as client:
        answer = (await client.post("/score", json=body(history=[{"item_id": i} for i in (101, 102, 103)]))).json()
    candidates = answer["explanation"]["candidates"]

    assert all(one.keys() == CANDIDATE for one in candidates)
    for name, past in (("logit", history), ("logit_without_history", None)):
        expected = expected_pctr(columns, history=past, user={"user_id": [1]})
        assert expected == pytest.approx([sigmoid(one[name]) for one in candidates], abs=1e-6)
    for one, score in zip(candidates, answer["scores"], strict=True):
        assert (one["item_id"], one["pctr"]) == (score["item_id"], score["pctr"])
        assert one["logit"] - one["logit_without_history"] == pytest.approx(one["history_effect"], abs=1e-5)
        assert sigmoid(one["logit"]) == pytest.approx(one["pctr_uncalibrated"], abs=1e-6)
        assert (one["attention"], one["update"]) == (None, None)


async def test_behaviors_are_those_that_the_net_saw(serve, store):
    """The newest `max_history` of the store, oldest first, with the catalogue's category and what is unknown."""
    items = [999, 100, 101, 102, 103, 104, 105, 106, 119]
    categories = [10, -1, -1, -1, -1, -1, -1, 77, -1]
    await store.append(1, make_behaviors(items, category=categories, time=np.arange(9) + 50, action=4), timeout_s=1)
    async with serve(store=store) as client:
        answer = (await client.post("/score", json=body())).json()
    behaviors = answer["explanation"]["behaviors"]

    assert answer["history_len"] == len(behaviors) == 8
    assert items[1:] == [one["item_id"] for one in behaviors]
    assert [10, 10, 10, 10, 10, 10, 77, 11] == [one["category"] for one in behaviors]
    assert list(range(51, 59)) == [one["time"] for one in behaviors]
    assert {"buy"} == {one["action"] for one in behaviors}
    assert [["cate_id"] if item == 106 else [] for item in items[1:]] == [one["unknown_features"] for one in behaviors]


async def test_what_is_unknown_has_a_name(serve):
    """User, context and item features that training did not see, or that were not given, are named."""
    request = body(
        user={"city": "paris"},
        candidates=[{"item_id": 100, "cate_id": 10}, {"item_id": 5, "cate_id": 10}, {"item_id": 5, "cate_id": 5}],
        history=[{"item_id": 7}],
    )
    async with serve() as client:
        explanation = (await client.post("/score", json=request)).json()["explanation"]

    assert explanation["unknown_features"] == ["city", "hour"]
    assert [[], ["item_id"], ["item_id", "cate_id"]] == [c["unknown_features"] for c in explanation["candidates"]]
    (behavior,) = explanation["behaviors"]
    assert behavior["unknown_features"] == ["item_id", "cate_id"]
    assert (behavior["time"], behavior["category"]) == (None, None)


async def test_an_empty_history_has_no_behaviors_and_no_effect(serve):
    """Lists are empty, and the history adds exactly nothing."""
    async with serve() as client:
        explanation = (await client.post("/score", json=body(history=[]))).json()["explanation"]

    assert explanation["behaviors"] == []
    assert {0.0} == {one["history_effect"] for one in explanation["candidates"]}


async def test_with_top_k_the_best_are_explained_in_their_order(serve):
    """However many candidates there are, `top_k` of them fit the limit and stand as in `scores`."""
    async with serve(explain_candidates=3) as client:
        answer = (await client.post("/score", json=body(20, top_k=3))).json()
        refused = await client.post("/score", json=body(20, top_k=4))

    found = [(one["item_id"], one["pctr"]) for one in answer["explanation"]["candidates"]]
    assert found == [(score["item_id"], score["pctr"]) for score in answer["scores"]]
    assert len(found) == 3
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("limit", "count", "message"),
    [(3, 4, "found 4 candidates to explain, allowed: 1 to 3"), (0, 1, "explanations are off")],
)
async def test_more_than_the_setting_allows_is_refused(serve, limit, count, message):
    """A 422 that says what is allowed; the same request without `explain` is scored."""
    async with serve(explain_candidates=limit) as client:
        refused = await client.post("/score", json=body(count))
        plain = await client.post("/score", json=body(count, explain=False))

    assert (refused.status_code, refused.json()["error_type"]) == (422, "invalid_request")
    assert message in refused.json()["error"]
    assert plain.status_code == 200


async def test_no_net_no_explanation(serve):
    """An answer from the prior has none to give, and says so."""
    async with serve(allow_prior=True) as client:
        answer = await client.post("/score", json=body(), headers={"X-Deadline-Ms": "0.001"})

    assert answer.json()["degraded"] == "prior"
    assert answer.json()["explanation"] is None


async def test_explaining_stays_within_budget_and_deadline(serve):
    """Explained requests leave the queue empty behind them, many at once as well as one."""
    async with serve(deadline_ms=5000, queue_ms=60_000) as client:
        answers = await asyncio.gather(*(client.post("/score", json=body(20)) for _ in range(20)))
        metrics = (await client.get("/metrics")).text

    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text.partition('"explanation":')[2].partition('"degraded"')[0] for answer in answers})
    assert "\nctr_rows 0.0\n" in metrics


def test_pieces_of_an_explanation_fall_in_their_places():
    """However the candidates are cut and in whatever order pieces come, each output is whole; NaN is refused."""
    user = {"history": np.zeros((1, 3, 1), dtype=np.int64)}
    work = ExplainWork(runtime=FakeRuntime(), user=user, candidates={"item_sparse": np.zeros((1, 5, 1))})
    logit, attention = np.arange(5, dtype=np.float32), np.arange(15, dtype=np.float32).reshape(5, 3)
    for piece in (slice(3, 5), slice(0, 3)):
        work.take({"logit": logit[None, piece], "attention": attention[None, piece]}, 0, piece)

    assert work.found["logit"].tolist() == logit.tolist()
    assert work.found["attention"].tolist() == attention.tolist()
    with pytest.raises(RuntimeFailure, match="attention is not a finite number"):
        work.take({"attention": attention[None, :1] * np.nan}, 0, slice(0, 1))
