"""The compiled part reads and writes rows as Python does, and what it refuses is for Python to decide."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.parse import ScoreParser, read_envelope
from service.api.render import render_rows
from service.api.rows import CompiledRows, open_compiled_rows
from service.errors import ServiceError
from service.scoring.scored import STATUSES, Scored, Timings
from service.scoring.scorer import rank
from tests.online.tiny_bundle import SCHEMA

PARSER = ScoreParser(SCHEMA, max_candidates=2500, max_history=10)
LARGEST = 2**63 - 1
GOOD = b'{"user_id": 1, "candidates": [{"item_id": 100, "cate_id": 7}, {"item_id": 0, "cate_id": 9223372036854775807}]}'

IDS = st.integers(0, LARGEST) | st.sampled_from([0, 1, LARGEST])
ODD = st.sampled_from([-1, 2**63, 2**64 - 1, 1.5, 1e300, True, None, "7", 'é\\"', [], [1], {}, {"item_id": 1}])
NAMES = st.sampled_from(["item_id", "cate_id", "price", "candidates", "id", "", "é", 'a"b', "a\\b"])
PIECES = [
    *(bytes([c]) for c in b'{}[]:,"\\0159-.e \n\x00\xff'),
    b'"candidates":',
    b'"item_id":1',
    b'"c\\u0061ndidates":',
]


@pytest.fixture(scope="module")
def compiled() -> CompiledRows:
    """The compiled part, where it is built."""
    found = open_compiled_rows()
    if found is None:
        pytest.skip("not built (it needs a C++ compiler when installing)")
    return found


@st.composite
def even_rows(draw: st.DrawFn) -> list[dict[str, int]]:
    """Rows that are all ids, which are the ones to be read natively."""
    names = draw(st.sampled_from([["item_id"], ["item_id", "cate_id"], ["cate_id", "item_id"]]))
    rows = draw(st.lists(st.tuples(*[IDS] * len(names)), min_size=1, max_size=4))
    return [dict(zip(names, row, strict=True)) for row in rows]


ROWS = even_rows() | st.lists(st.dictionaries(NAMES, IDS | ODD, max_size=3) | ODD, max_size=4)
# Objects, and not fields, so that keys come in any order and "candidates" may be missing or deeper.
BODIES = st.dictionaries(
    st.sampled_from(["user_id", "top_k", "history", "context", "user", "request_id", "x"]), IDS | ROWS | ODD, max_size=3
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A body, often a good one, with up to three edits anywhere."""
    rest = draw(BODIES)
    fields = draw(st.permutations([("user_id", 1), ("candidates", draw(ROWS)), *rest.items()]))
    raw = orjson.dumps(dict(fields), option=draw(st.sampled_from([0, orjson.OPT_INDENT_2])) | orjson.OPT_APPEND_NEWLINE)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.sampled_from([b"", *PIECES])) + raw[at + draw(st.integers(0, 3)) :]
    return raw


def outcome(raw: bytes, compiled: CompiledRows | None) -> object:
    """The request's content, or the error and its message."""
    try:
        parsed = PARSER.parse(read_envelope(raw, compiled), deadline=1.0)
    except ServiceError as error:
        return type(error), str(error)
    request = parsed.request
    columns = {name: (np.asarray(column).dtype, list(column)) for name, column in request.candidates.items()}
    history = None if request.history is None else request.history.tobytes()
    return columns, request.count, parsed.item_ids.tolist(), parsed.top_k, repr(request.user_id), history


def body_of(candidates: str) -> bytes:
    """A good request around this text."""
    return b'{"user_id":1,"candidates":%b}' % candidates.encode()


def scored_of(pctr: np.ndarray, status: list[str]) -> Scored:
    """An answer with these scores."""
    times = Timings(store_s=0, encode_s=0, queue_s=0, compute_s=0)
    return Scored(
        pctr=pctr, rank=rank(pctr), status=status, unknown_items=0, unknown_features=0,
        user_status="known", history_len=0, degraded="none", timings=times,
    )  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(raw=texts() | st.binary(max_size=40))
def test_every_body_is_read_as_without_it(compiled: CompiledRows, raw: bytes) -> None:
    """The same columns, count and user, or the same error with the same words, whatever is sent."""
    assert outcome(raw, None) == outcome(raw, compiled)


@settings(max_examples=300, deadline=None)
@given(raw=texts())
def test_what_it_takes_out_and_what_it_leaves_are_the_whole(compiled: CompiledRows, raw: bytes) -> None:
    """Where the rest is JSON, the rest with the rows is what orjson reads from the body."""
    found = compiled.read(raw)
    if found is None:
        return
    rest, rows = found
    try:
        left = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return
    assert orjson.loads(raw) == {**left, "candidates": rows.to_rows()}


@given(rows=even_rows(), indent=st.booleans(), before=st.booleans())
def test_rows_of_ids_are_read(compiled: CompiledRows, rows: list[dict[str, int]], indent: bool, before: bool) -> None:
    """Every value an id and every row with the first one's keys: such a body is not left to Python."""
    fields = {"candidates": rows, "user": {"candidates": [1]}, "request_id": '"candidates": [\\'}
    raw = orjson.dumps(fields if before else dict(reversed(fields.items())), option=orjson.OPT_INDENT_2 * indent)
    found = compiled.read(raw)

    assert found is not None
    assert rows == found[1].to_rows()
    assert {**fields, "candidates": []} == orjson.loads(found[0])


def test_a_body_cut_off_anywhere_is_refused_as_without_it(compiled: CompiledRows) -> None:
    """No byte behind the end is read, and the position in the message is that of the whole body."""
    for end in range(len(GOOD)):
        assert outcome(GOOD[:end], None) == outcome(GOOD[:end], compiled)
        assert compiled.read(GOOD[:end]) is None


@pytest.mark.parametrize(
    "candidates",
    [
        "[]", "[{}]", "{}", "1", "[1]", '[{"a":1},{"b":1}]', '[{"a":1},{"a":1,"b":1}]', '[{"a":1,"b":1},{"a":1}]',
        '[{"a":1,"b":1},{"b":1,"a":1}]', '[{"a":1,"a":1}]', '[{"a":-1}]', '[{"a":-0}]', '[{"a":+1}]', '[{"a":01}]',
        '[{"a":1.0}]', '[{"a":1e1}]', '[{"a":9223372036854775808}]', '[{"a":99999999999999999999999}]', '[{"a":"1"}]',
        '[{"a":true}]', '[{"\\u0061":1}]', '[{"é":1}]', '[{"a":1,}]', '[{"a":1},]', '[{"a" 1}]', '[{"a":1}{"a":1}]',
        '[{"a":1}],"candidates":[]', '[{"a":1}],"candi\\u0064ates":[]',
        f"[{dict.fromkeys(map(str, range(33)), 1)}]".replace("'", '"'),
    ],
)  # fmt: skip
def test_anything_else_is_left_to_python(compiled: CompiledRows, candidates: str) -> None:
    """Also what orjson would read: the compiled part knows one form only."""
    assert compiled.read(body_of(candidates)) is None
    assert outcome(body_of(candidates), None) == outcome(body_of(candidates), compiled)


def test_the_last_of_32_columns_and_of_2500_rows_is_read(compiled: CompiledRows) -> None:
    """Up to both limits, with the shortest and the longest values."""
    rows = [{f"{i}": LARGEST if row % 2 else 0 for i in range(32)} for row in range(2500)]
    found = compiled.read(orjson.dumps({"candidates": rows}))

    assert found is not None
    assert rows == found[1].to_rows()
    shortest = compiled.read(b'{"candidates":[%b]}' % b",".join([b'{"":0}'] * 2500))
    assert shortest is not None
    assert [{"": 0}] * 2500 == shortest[1].to_rows()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(0, 3) | st.sampled_from([40, 2500]), top_k=st.none() | st.integers(1, 5))
def test_answers_are_written_as_without_it(
    compiled: CompiledRows, data: st.DataObject, count: int, top_k: int | None
) -> None:
    """The same objects: a score is the same number and never looks like an integer."""
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    few = data.draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=3))
    pctr = np.where(rng.random(count) < 0.5, rng.random(count), rng.choice(few, count)).astype(np.float32)
    ids = rng.integers(0, LARGEST, count, endpoint=True)
    status = data.draw(st.sampled_from([["ok"] * count, [STATUSES[i] for i in rng.integers(0, 3, count)]]))
    if count == 0:
        assert compiled.write(ids, pctr, rank=rank(pctr), status=status) is None
        return
    scored = scored_of(pctr, status)
    expected, found = (orjson.loads(render_rows(scored, ids, top_k=top_k, compiled=how)) for how in (None, compiled))

    assert expected == found
    assert all(type(row["pctr"]) is float for row in found)
    assert compiled.write(ids, pctr, rank=rank(pctr), status=status) is not None


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_not_written(compiled: CompiledRows, score: float) -> None:
    """JSON has no such number."""
    pctr = np.array([0.5, score], dtype=np.float32)

    assert compiled.write(np.array([1, 2]), pctr, rank=np.array([1, 2]), status=["ok", "ok"]) is None


def test_columns_of_unequal_length_are_not_written(compiled: CompiledRows) -> None:
    """Nothing behind the shorter one is read."""
    assert compiled.write(np.array([1]), np.float32([0.5, 0.5]), rank=np.array([1, 2]), status=["ok", "ok"]) is None


def test_where_it_is_not_built_or_cannot_be_loaded_there_is_none(tmp_path: Path) -> None:
    """An install without a compiler, and one with a file for another machine."""
    assert open_compiled_rows(tmp_path) is None
    (tmp_path / "_rows.abi3.so").write_bytes(b"not a library")
    assert open_compiled_rows(tmp_path) is None
