"""Whatever a caller sends: a 4xx in the one error shape that says what to change, never a 500 or a stack trace."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.anyio

GOOD = {"user_id": 1, "candidates": [{"item_id": 100}]}


@pytest.fixture(scope="module")
async def client(serve):
    """One service for all tests here that keep its limits."""
    async with serve(deadline_ms=10_000) as client:
        yield client


def body(**changes: object) -> bytes:
    """A good request, changed."""
    return orjson.dumps({**GOOD, **changes})


def items(*rows: object) -> bytes:
    """A good request with other candidates."""
    return body(candidates=list(rows))


ONE = {"item_id": 100}
BAD = [
    # The body as a whole.
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b'{"user_id": 1, "candidates": [{"item_id": NaN}]}', "not JSON"),
    (b'{"user_id": 1, "candidates": [{"item_id": 100, "price": Infinity}]}', "not JSON"),
    (b'{"user_id": 1, "candidates": [{"item_id": 100, "price": 1e999}]}', "not JSON"),
    (b'{"user_id": "\xff\xfe", "candidates": []}', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"a":' * 500 + b"1" + b"}" * 500, "unknown field 'a', allowed: request_id, user_id"),
    (b"[1, 2]", "found a list, allowed: an object"),
    (b"null", "found None, allowed: an object"),
    (body(candidate=[]), "unknown field 'candidate'"),
    (orjson.dumps({"candidates": [ONE]}), "user_id: missing, allowed: an integer from 0"),
    (orjson.dumps({"user_id": 1}), "candidates: missing, allowed: a list of objects"),
    # user_id and the other simple fields.
    (body(user_id=-1), "user_id: found -1"),
    (body(user_id=2**63), "user_id: found 9223372036854775808"),
    (body(user_id=True), "user_id: found True"),
    (body(user_id=1.0), "user_id: found 1.0"),
    (body(user_id=None), "user_id: found None"),
    (body(user_id=""), "user_id: found ''"),
    (body(user_id="a" * 129), "user_id: found 'aaa"),
    (body(user_id="a\nb"), "user_id: found 'a\\nb'"),
    (body(user_id=[1]), "user_id: found a list"),
    (body(user_id="seventeen"), "user_id: found 'seventeen', allowed: an integer"),  # this bundle's ids are integers
    (body(top_k=0), "top_k: found 0"),
    (body(top_k=True), "top_k: found True"),
    (body(top_k="3"), "top_k: found '3'"),
    (body(request_id="no spaces"), "request_id: found 'no spaces'"),
    (body(request_id="a" * 129), "request_id: found 'aaa"),
    (body(request_id="\u00e9"), "request_id: found"),
    (body(explain="yes"), "explain: found 'yes'"),
    # Candidates.
    (items(), "candidates: found none, allowed: 1 to 2000"),
    (body(candidates={}), "candidates: has no item_id"),
    (body(candidates={"item_id": []}), "candidates: found none"),
    (body(candidates=None), "candidates: found None"),
    (body(candidates="100"), "candidates: found '100'"),
    (items(100), "candidates[0]: found 100, allowed: an object"),
    (items(ONE, None), "candidates[1]: found None, allowed: an object"),
    (items(ONE, [1]), "candidates[1]: found a list"),
    (items({}), "candidates[0]: has no item_id"),
    (items({"cate_id": 10}), "candidates[0]: has no item_id"),
    (body(candidates={"cate_id": [10]}), "candidates: has no item_id"),
    (items({"item_id": 1, "colour": 3}), "candidates[0]: unknown field 'colour', allowed: item_id, cate_id, price"),
    (items(ONE, {"item_id": 1, "colour": 3}), "candidates[1]: unknown field 'colour'"),
    (items(ONE, ONE, {"item_id": 1, "cate_id": 3}), "candidates[0]: has no cate_id, which row 2 has"),
    (items({"item_id": 1, "cate_id": 3}, ONE), "candidates[1]: has no cate_id, which row 0 has"),
    (items({"item_id": 1, "cate_id": 3}, {"item_id": 1, "price": 3}), "candidates[1]: has no cate_id"),
    (items(ONE, {"item_id": "101"}), "candidates.item_id, row 1: found '101', allowed: an integer from 0"),
    (items(ONE, {"item_id": True}), "candidates.item_id, row 1: found True"),
    (items(ONE, {"item_id": 101.0}), "candidates.item_id, row 1: found 101.0"),
    (items(ONE, {"item_id": None}), "candidates.item_id, row 1: found None"),
    (items(ONE, {"item_id": [1]}), "candidates.item_id, row 1: found a list"),
    (items({"item_id": {}}), "candidates.item_id: found an object"),
    (items(ONE, {"item_id": -5}), "candidates.item_id, row 1: found -5"),
    (items(ONE, {"item_id": 2**63}), "candidates.item_id, row 1: found 9223372036854775808"),
    (b'{"user_id": 1, "candidates": [{"item_id": 36893488147419103232}]}', "candidates.item_id: found 3.68"),
    (items({"item_id": 1, "price": None}), "candidates.price: found None, allowed: a finite number"),
    (items({"item_id": 1, "price": "3"}), "candidates.price: found '3'"),
    (items({"item_id": 1, "price": False}), "candidates.price: found False"),
    (items(ONE, {"item_id": "x" * 1_000_000}), "candidates.item_id, row 1: found 'xxx"),
    (body(candidates={"item_id": [1, 2], "cate_id": [1]}), "different lengths (item_id 2, cate_id 1)"),
    (body(candidates={"item_id": 1}), "candidates.item_id: found 1, allowed: a list"),
    (body(candidates={"colour": [1]}), "candidates: unknown field 'colour'"),
    (body(candidates={"item_id": [[1, 2], [3, 4]]}), "candidates.item_id, row 0: found a list"),
    # User, context and history.
    (body(context={"minute": 3}), "context: unknown field 'minute', allowed: hour"),
    (body(context={"hour": "3"}), "context.hour: found '3'"),
    (body(context=[{"hour": 3}]), "context: found a list, allowed: an object"),
    (body(user={"user_id": 3}), "user: unknown field 'user_id', allowed: city, age"),
    (body(user={"city": 3}), "user.city: found 3, allowed: a string"),
    (body(user={"age": "old"}), "user.age: found 'old', allowed: a finite number"),
    (body(history="none"), "history: found 'none'"),
    (
        body(history=[{"item_id": 1, "action": 3}]),
        "history[0]: unknown field 'action', allowed: item_id, cate_id, time",
    ),
    (body(history=[{"cate_id": 1}]), "history[0]: has no item_id"),
    (body(history={"item_id": [-1]}), "history.item_id: found -1"),
    (body(history={"item_id": [1], "time": [1.5]}), "history.time: found 1.5"),
]


@pytest.mark.parametrize(("raw", "message"), BAD, ids=[message for _, message in BAD])
async def test_bad_input_is_refused_with_the_reason(client, raw, message):
    """422, and the message names the field, what was found and what is allowed."""
    answer = await client.post("/score", content=raw)

    assert (answer.status_code, answer.json()["error_type"]) == (422, "invalid_request"), answer.text
    assert answer.json().keys() == {"error", "error_type", "request_id"}
    assert message in answer.json()["error"]
    assert len(answer.json()["error"]) < 400


TOO_LARGE = [
    (items(*[ONE] * 2001), "candidates: found 2001, allowed: 1 to 2000"),
    (body(history={"item_id": [1] * 201}), "history: found 201 behaviors, allowed: at most 200"),
    (body(user_id="x" * 10 * 1024**2), "the body has 10485"),
]


@pytest.mark.parametrize(("raw", "message"), TOO_LARGE, ids=["candidates", "history", "body"])
async def test_too_much_is_refused_with_the_limit(client, raw, message):
    """413, naming the limit, for candidates, behaviors and bytes."""
    answer = await client.post("/score", content=raw)

    assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")
    assert message in answer.json()["error"]


async def test_as_many_as_allowed_are_scored(serve):
    """The limit itself is allowed."""
    async with serve(max_candidates=50) as client:
        answers = [await client.post("/score", content=items(*[ONE] * count)) for count in (50, 51)]

    assert [answer.status_code for answer in answers] == [200, 413]


async def test_a_body_without_a_length_is_cut_off_at_the_limit(serve):
    """A chunked body is refused at the limit; the rest of it is not asked for."""
    sent = []

    async def chunks():
        for _ in range(1000):
            sent.append(1)
            yield b" " * 1024

    async with serve(max_body_bytes=4096) as client:
        answer = await client.post("/score", content=chunks())

    assert (answer.status_code, answer.json()["error_type"]) == (413, "too_large")
    assert len(sent) < 10


@pytest.mark.parametrize("given", ["0", "-5", "soon", "nan", "inf", ""])
async def test_a_deadline_that_is_no_time_is_refused(client, given):
    """X-Deadline-Ms must be a number of milliseconds above 0."""
    answer = await client.post("/score", json=GOOD, headers={"X-Deadline-Ms": given})

    assert answer.status_code == 422
    assert "X-Deadline-Ms" in answer.json()["error"]


# What a confused or hostile caller could put anywhere in the body.
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["item_id", "cate_id", "price", "time", "hour", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = ["user_id", "candidates", "context", "history", "user", "top_k", "explain", "request_id", "x"]


async def test_no_json_at_all_causes_a_500(client):
    """Any JSON gets a 200 or a 4xx in the one shape."""
    raws: list[bytes] = []

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=5), st.booleans())
    def collect(changes: dict[str, object], from_good: bool) -> None:
        raws.append(orjson.dumps({**(GOOD if from_good else {}), **changes}))

    collect()
    answers = [await client.post("/score", content=raw) for raw in raws]

    for raw, answer in zip(raws, answers, strict=True):
        assert answer.status_code in (200, 413, 422), (raw, answer.text)
        assert answer.status_code == 200 or answer.json().keys() == {"error", "error_type", "request_id"}
