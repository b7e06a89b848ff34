"""POST /score and its neighbours, as a caller sees them."""

import asyncio

import numpy as np
import orjson
import pytest

from model.bundle.records import make_behaviors

pytestmark = pytest.mark.anyio

ANSWER = {"request_id", "bundle_version", "degraded", "user_status", "history_len", "scores", "timings_ms"}


async def test_every_candidate_gets_the_score_of_the_net(serve, store, expected_pctr):
    """The answer has, in the caller's order, what the net gives for the stored history and all features sent."""
    history = make_behaviors([101, 102], category=[10, 10], time=[1, 2])
    await store.append(1, history, timeout_s=1)
    body = {
        "user_id": 1,
        "user": {"city": "rome", "age": 30},
        "context": {"hour": 5},
        "candidates": [{"item_id": 105, "price": 99.5}, {"item_id": 117, "price": 1}, {"item_id": 105, "price": 120}],
    }
    async with serve(store=store) as client:
        answer = (await client.post("/score", json=body)).json()
    expected = expected_pctr(
        {"item_id": [105, 117, 105], "price": [99.5, 1, 120]},
        history=history,
        user={"user_id": [1], "city": ["rome"], "age": [30]},
        context={"hour": [5]},
    )

    assert answer.keys() == ANSWER
    assert expected == pytest.approx([row["pctr"] for row in answer["scores"]], abs=1e-6)
    assert [row["item_id"] for row in answer["scores"]] == [105, 117, 105]
    assert tuple(answer[name] for name in ("bundle_version", "degraded", "user_status", "history_len")) == (
        "v1",
        "none",
        "known",
        2,
    )
    assert {"parse", "store", "encode", "queue", "compute", "total"} == answer["timings_ms"].keys()


async def test_columns_give_the_same_scores_as_rows(serve):
    """Candidates may be one object of lists."""
    rows = {"user_id": 1, "candidates": [{"item_id": 100 + i, "cate_id": 10} for i in range(9)]}
    columns = {"user_id": 1, "candidates": {"item_id": list(range(100, 109)), "cate_id": [10] * 9}}
    async with serve() as client:
        answers = [(await client.post("/score", json=body)).json()["scores"] for body in (rows, columns)]

    assert answers[0] == answers[1]
    assert len(answers[0]) == 9


async def test_rank_is_by_score_and_equal_scores_keep_their_order(serve):
    """Rank 1 has the highest pCTR; the same item twice gets neighbouring ranks in request order."""
    async with serve() as client:
        body = {"user_id": 1, "candidates": {"item_id": [100, 110, 100, 119]}}
        scores = (await client.post("/score", json=body)).json()["scores"]

    by_rank = sorted(scores, key=lambda row: row["rank"])
    assert [row["rank"] for row in by_rank] == [1, 2, 3, 4]
    assert sorted((row["pctr"] for row in scores), reverse=True) == [row["pctr"] for row in by_rank]
    assert scores[2]["rank"] == scores[0]["rank"] + 1


async def test_top_k_answers_the_best_in_rank_order(serve):
    """With top_k the answer holds the k best, best first, under the ranks that they have among all."""
    body = {"user_id": 1, "candidates": {"item_id": list(range(100, 120))}}
    async with serve() as client:
        everything = (await client.post("/score", json=body)).json()["scores"]
        best = (await client.post("/score", json={**body, "top_k": 3})).json()["scores"]
        more_than_all = (await client.post("/score", json={**body, "top_k": 99})).json()["scores"]

    assert sorted(everything, key=lambda row: row["rank"])[:3] == best
    assert len(more_than_all) == 20


async def test_unknown_ids_are_scored_and_marked(serve, expected_pctr):
    """An item, a category or a user that training never saw is scored as index 1 and says so."""
    items = {"item_id": [105, 9_999, 106], "cate_id": [10, 10, 77]}
    async with serve() as client:
        answer = (await client.post("/score", json={"user_id": 2**63 - 1, "candidates": items})).json()

    assert [row["status"] for row in answer["scores"]] == ["ok", "unknown_item", "unknown_feature"]
    assert answer["user_status"] == "unknown"
    assert expected_pctr(items, user={"user_id": [2**63 - 1]}) == pytest.approx(
        [row["pctr"] for row in answer["scores"]], abs=1e-6
    )


async def test_a_history_in_the_body_replaces_the_stored_one(serve, store, expected_pctr):
    """Behaviors in the request are used instead of the store's, in order of time where they carry one."""
    await store.append(1, make_behaviors([119] * 5, time=[1, 2, 3, 4, 5]), timeout_s=1)
    shuffled = [{"item_id": 110, "time": 20}, {"item_id": 101, "time": 10}]
    many = {"item_id": [119, *range(100, 108)]}  # nine; the bundle reads the newest eight
    async with serve(store=store) as client:
        answers = [
            (
                await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 105}], "history": history})
            ).json()
            for history in (shuffled, many, [])
        ]
    expected = [
        expected_pctr({"item_id": [105]}, history=make_behaviors(items), user={"user_id": [1]})
        for items in ([101, 110], list(range(100, 108)), [])
    ]

    assert [answer["history_len"] for answer in answers] == [2, 8, 0]
    assert expected == [[pytest.approx(row["pctr"], abs=1e-6) for row in answer["scores"]] for answer in answers]


async def test_the_request_id_comes_back_in_body_and_header(serve):
    """The body's id goes before the header's; without either, or with an unfit header, there is a random one."""
    body = {"user_id": 1, "candidates": [{"item_id": 100}]}
    async with serve() as client:
        both = await client.post("/score", json={**body, "request_id": "b-1"}, headers={"X-Request-Id": "h-1"})
        only_header = await client.post("/score", json=body, headers={"X-Request-Id": "h-1"})
        unfit = await client.post("/score", json=body, headers={"X-Request-Id": "no spaces"})

    assert (both.json()["request_id"], both.headers["x-request-id"]) == ("b-1", "b-1")
    assert (only_header.json()["request_id"], only_header.headers["x-request-id"]) == ("h-1", "h-1")
    assert unfit.json()["request_id"] == unfit.headers["x-request-id"] != "no spaces"


async def test_concurrent_callers_get_their_own_scores(serve, store, expected_pctr):
    """Many requests at once, each with its own user, history and candidates: nobody gets another's answer."""
    rng = np.random.default_rng(3)
    histories = {user: make_behaviors(rng.integers(100, 120, size=user % 9)) for user in range(1, 41)}
    items = {user: {"item_id": rng.integers(95, 125, size=user).tolist()} for user in histories}
    for user, history in histories.items():
        await store.append(user, history, timeout_s=1)
    async with serve(store=store, deadline_ms=10_000, queue_ms=10_000) as client:  # time is not the rule here
        sent = [client.post("/score", json={"user_id": user, "candidates": items[user]}) for user in histories]
        answers = [answer.json() for answer in await asyncio.gather(*sent)]

    for user, answer in zip(histories, answers, strict=True):
        expected = expected_pctr(items[user], history=histories[user], user={"user_id": [user]})
        assert expected == pytest.approx([row["pctr"] for row in answer["scores"]], abs=1e-6)


async def test_health_and_bundle_routes(serve):
    """A ready service says so, and shows the manifest without paths of the machine."""
    async with serve() as client:
        live, ready, bundle = [await client.get(path) for path in ("/livez", "/readyz", "/bundle")]

    assert [live.status_code, ready.status_code, bundle.status_code] == [200, 200, 200]
    assert ready.json() == {"status": "ready", "bundle_version": "v1"}
    assert (bundle.json()["name"], bundle.json()["version"]) == ("tiny", "v1")
    assert "/tmp" not in bundle.text


async def test_unknown_paths_and_methods_have_the_one_error_shape(serve):
    """404 and 405 look like every other error, and 405 says what is allowed."""
    async with serve() as client:
        missing, wrong = await client.get("/nothing"), await client.get("/score")

    assert (missing.status_code, missing.json()["error_type"]) == (404, "not_found")
    assert (
        wrong.status_code,
        wrong.json()["error_type"],
        wrong.headers["allow"],
    ) == (405, "method_not_allowed", "POST")
    assert all({"error", "error_type", "request_id"} == answer.json().keys() for answer in (missing, wrong))


async def test_the_openapi_page_describes_the_real_body_and_answer(serve):
    """The documented example is a request that works, and its answer has exactly the documented fields."""
    async with serve() as client:
        assert (await client.get("/docs")).status_code == 200
        spec = (await client.get("/openapi.json")).json()
        score = spec["paths"]["/score"]["post"]
        example = score["requestBody"]["content"]["application/json"]["schema"]["example"]
        answer = await client.post("/score", content=orjson.dumps(example))

    documented = spec["components"]["schemas"]["ScoreAnswer"]
    assert answer.status_code == 200
    assert documented["properties"].keys() - {"explanation"} == answer.json().keys() == documented["example"].keys()
    assert {int(code) for code in score["responses"]} == {200, 401, 403, 409, 413, 422, 429, 500, 503, 504}
    assert [parameter["name"] for parameter in score["parameters"]] == ["X-Deadline-Ms", "X-Request-Id"]


async def test_the_phases_are_in_a_header_too(serve):
    """Server-Timing names the phases of timings_ms with their milliseconds."""
    async with serve() as client:
        answer = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 100}]})

    found = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))
    assert found.keys() == answer.json()["timings_ms"].keys()
    for name, milliseconds in answer.json()["timings_ms"].items():
        assert abs(float(found[name]) - milliseconds) <= 0.011


async def test_ranks_beyond_the_table(serve):
    """More candidates than ranks that are kept ready are ranked all the same."""
    async with serve(max_candidates=3000) as client:
        answer = await client.post("/score", json={"user_id": 1, "candidates": {"item_id": [100] * 2500}})

    assert [row["rank"] for row in answer.json()["scores"]] == list(range(1, 2501))
