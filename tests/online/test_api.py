"""POST /score and its neighbours, as a caller sees them."""

import pytest

from model.bundle.records import make_behaviors

pytestmark = pytest.mark.anyio


async def test_scores_come_back_in_the_callers_order(serve, store):
    """Every candidate is answered once, in order, with a pCTR and a rank."""
    await store.append(1, make_behaviors([101, 102]), timeout_s=1)
    async with serve() as client:
        answer = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": i} for i in (105, 101, 117)]})

    assert 200 == answer.status_code, answer.text
    print(answer.text, answer.headers)
    assert [105, 101, 117] == [row["item_id"] for row in answer.json()["scores"]]
