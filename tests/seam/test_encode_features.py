"""Lists, hashed ids, transformed numbers and gaps: what the encoder makes of each, by hand."""

import numpy as np
import pytest

from model.bundle.catalogue import Catalogue
from model.bundle.dense import Buckets, Range, Scaling
from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError, EncodeError
from model.bundle.folder import encoder_files, read_encoder
from model.bundle.gaps import GAP_ROWS, bucket
from model.bundle.raw import Lists
from model.bundle.records import make_behaviors
from model.bundle.schema import FIRST_ID, PADDING, UNKNOWN, Schema, schema_from_table
from model.bundle.vocabulary import Hashed, Vocabulary

DAY = 86_400
TEXTS = [930, 621, 758]  # "a", "ø" and "" among 1,000 buckets
TABLE = {
    "user": [
        {"name": "langs", "kind": "multi", "dtype": "str", "max_values": 2},
        {"name": "age", "kind": "dense", "transform": "bucketise"},
    ],
    "context": [
        {"name": "device", "dtype": "str", "hash_buckets": 1000},
        {"name": "wait", "kind": "dense", "transform": "log", "missing": 0.0},
        {"name": "raw", "kind": "dense", "transform": "none"},
    ],
    "item": [
        {"name": "item_id"},
        {"name": "tags", "kind": "multi", "max_values": 3},
        {"name": "stock", "kind": "dense", "transform": "bucketise", "missing": 1.0},
        {"name": "price", "kind": "dense"},
    ],
    "behavior": [{"shares": "tags", "column": "t"}, {"shares": "item_id", "column": "i"}],
    "times": {"column": "when", "gaps": ["next", "request"], "cut_s": 7 * DAY},
    "max_history": 4,
}
SCHEMA: Schema = schema_from_table(TABLE, file="test")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Items 1 to 3; tags 7, 8 and 9; item 2 has four of them and an unknown stock, item 3 none."""
    return Encoder(
        SCHEMA,
        {
            "langs": Vocabulary(np.array(["de", "no"])),
            "device": Hashed(1000),
            "item_id": Vocabulary(np.array([1, 2, 3])),
            "tags": Vocabulary(np.array([7, 8, 9])),
        },
        scalings={
            "age": Buckets(edges=(20.0, 40.0)),
            "wait": Scaling(mean=1.0, std=2.0, log=True),
            "raw": Range(low=-1.0, high=3.0, absent=0.5),
            "stock": Buckets(edges=(1.0, 10.0)),
            "price": Scaling(mean=10.0, std=2.0),
        },
        catalogue=Catalogue(
            ids=np.array([1, 2, 3]),
            columns={
                "tags": Lists(values=np.array([8, 7, 8, 9, 7]), lengths=np.array([1, 4, 0])),
                "stock": np.array([0.5, np.nan, 11.0]),
                "price": np.array([10.0, 12.0, np.nan]),
            },
        ),
    )


def test_columns_stand_side_by_side() -> None:
    """A list takes as many columns as it may have values; in a history the gaps come last."""
    assert SCHEMA.columns("item") == {"item_id": slice(0, 1), "tags": slice(1, 4), "stock": slice(4, 5)}
    assert SCHEMA.history_columns() == [slice(0, 3), slice(3, 4)]
    assert SCHEMA.gap_columns() == {"next": 4, "request": 5}


def test_lists_keep_their_first_values_and_are_padded(encoder: Encoder) -> None:
    """Values beyond `max_values` are not read; not given is one unknown value, and empty is nothing."""
    langs = [["no", "de", "no"], ["xx"], []]
    sparse = encoder.encode_request({"langs": langs, "age": [1, 1, 1]}, {}, rows=3)["user_sparse"]
    absent = encoder.encode_request({}, {}, rows=1)["user_sparse"]

    assert sparse[:, :2].tolist() == [[3, 2], [UNKNOWN, PADDING], [PADDING, PADDING]]
    assert absent.tolist() == [[UNKNOWN, PADDING, UNKNOWN]]


@pytest.mark.parametrize("wrong", [["no"], [["no"], "no"], [[3]], [None], "no", [{"no": 1}]])
def test_what_is_no_list_of_texts_is_refused(encoder: Encoder, wrong: object) -> None:
    """A text is not a list of letters."""
    with pytest.raises(EncodeError, match=r"^langs: found "):
        encoder.encode_request({"langs": wrong}, {}, rows=1)


def test_numbers_are_transformed(encoder: Encoder) -> None:
    """Edges belong to the bucket above; the logarithm has the sign of the value; `none` is cut off at the range."""
    context = {"wait": [np.e - 1, 1 - np.e, 1.7e308], "raw": [2.5, 1e300, -1e300]}
    out = encoder.encode_request({"age": [19.9, 20.0, 1e308]}, context, rows=3)

    assert out["user_sparse"][:, 2].tolist() == [2, 3, 4]
    assert out["context_dense"][:, 0] == pytest.approx([0.0, -1.0, 10.0], abs=1e-6)
    assert out["context_dense"][:, 1].tolist() == [2.5, 3.0, -1.0]


def test_missing_numbers_follow_the_schema(encoder: Encoder) -> None:
    """A declared number is encoded as if it were given, in the catalogue too; without one it is the mean, or the
    unknown bucket; NaN is a mistake.
    """
    absent = encoder.encode_request({}, {}, rows=1)
    masked = np.ma.masked_array([5.0, 30.0], mask=[True, False])
    age = encoder.encode_request({"age": masked}, {}, rows=2)["user_sparse"][:, 2]
    items = encoder.encode_items({"item_id": [1, 2, 3, 99]})

    assert absent["context_dense"].tolist() == [[-0.5, 0.5]]
    assert age.tolist() == [UNKNOWN, 3]
    assert items["item_sparse"][:, 4].tolist() == [2, 3, 4, 3]
    assert items["item_dense"][:, 0].tolist() == [0.0, 1.0, 0.0, 0.0]
    for wrong in ([float("nan")], np.array([np.nan])):
        with pytest.raises(EncodeError, match=r"^raw: found .*nan"):
            encoder.encode_request({}, {"raw": wrong}, rows=1)


def test_an_unknown_number_is_no_unknown_feature(encoder: Encoder) -> None:
    """Status tells of ids only: of a tag that training did not see, not of a stock that nobody knows."""
    items = encoder.encode_items({"item_id": [1, 1], "tags": [[8], [8, 5]], "stock": [1, 1], "price": [1, 1]})
    items["item_sparse"][0, 4] = UNKNOWN

    assert encoder.unknown_features(items).tolist() == [False, True]


def test_hashing_is_the_same_everywhere() -> None:
    """Fixed values: a table that was trained elsewhere must find its rows; blake2b and splitmix64 by their papers."""
    index = Hashed(1000)

    assert index.lookup(np.array([0, 1, 2, 2**63 - 1])).tolist() == [
        FIRST_ID + splitmix64(n) % 1000 for n in (0, 1, 2, 2**63 - 1)
    ]
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first output of the reference code for seed 0
    assert index.lookup(["a", "ø", ""]).tolist() == TEXTS
    assert len(index) == 1002


def test_hashed_ids_spread(encoder: Encoder) -> None:
    """Consecutive integers and similar texts fill the buckets like random ones; none is padding or unknown."""
    for ids in (np.arange(100_000), [f"d-{i}" for i in range(100_000)]):
        counts = np.bincount(Hashed(100).lookup(ids), minlength=102)
        assert counts[:FIRST_ID].tolist() == [0, 0]
        assert 850 < counts[FIRST_ID:].min() <= counts[FIRST_ID:].max() < 1150


def splitmix64(n: int) -> int:
    """In Python's integers."""
    mask = 2**64 - 1
    x = (n + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_gaps_are_counted_in_doubling_seconds() -> None:
    """Floor of log2(1 + seconds), exact at the edges; the future counts as now, and the table has room for all."""
    seconds = np.array([-5, 0, 1, 2, 3, 6, 7, 2**20 - 2, 2**20 - 1, 2**40, 2**62 // 1000])

    assert bucket(seconds * 1000).tolist() == [0, 0, 1, 1, 2, 2, 3, 19, 20, 31, 31]
    assert bucket(np.array([999, 1000])).tolist() == [0, 1]
    assert GAP_ROWS == 31 + FIRST_ID + 1


def test_a_history_has_gaps_and_begins_after_the_last_long_one(encoder: Encoder) -> None:
    """To the next behavior, and for the newest one to the request; tags come from the catalogue, the cut drops item 1.

    A second user's history is untouched by it, a third has none.
    """
    now = 100 * DAY
    first = make_behaviors([1, 2, 3], time=[1000 * (now - t) for t in (9 * DAY, 6, 1)])
    second = make_behaviors([3], time=[1000 * (now - 30 * DAY)])
    out = encoder.encode_history([first, second, make_behaviors([])], now_ms=np.full(3, 1000 * now))

    assert out["history_len"].tolist() == [2, 1, 0]
    assert out["history"].tolist() == [
        [[2, 3, 4, 3, 2 + 2, 2 + 2], [0, 0, 0, 4, 1 + 2, 1 + 2]],
        [[0, 0, 0, 4, 21 + 2, 21 + 2], [0] * 6],
        [[0] * 6, [0] * 6],
    ]


def test_without_the_time_of_the_request_gaps_to_it_are_unknown(encoder: Encoder) -> None:
    """Also that of the newest behavior to its next one; the others are known."""
    out = encoder.encode_history([make_behaviors([3, 3], time=[0, 1000])])

    assert out["history"][0, :, 4:].tolist() == [[1 + 2, UNKNOWN], [UNKNOWN, UNKNOWN]]


def test_histories_end_to_end_are_cut_as_one_by_one(encoder: Encoder) -> None:
    """What training encodes at once is what serving encodes for each."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 5, 50)
    histories = [
        make_behaviors(rng.integers(1, 5, n), time=np.sort(rng.integers(0, 40 * DAY * 1000, n))) for n in lengths
    ]
    now = rng.integers(40 * DAY, 50 * DAY, 50) * 1000
    flat, left = encoder.encode_ragged(np.concatenate(histories), lengths, now_ms=now)

    alone = [encoder.encode_history([h], now_ms=now[i : i + 1]) for i, h in enumerate(histories)]
    assert left.tolist() == [int(one["history_len"][0]) for one in alone]
    assert left.sum() < lengths.sum()
    parts = [one["history"][0, : one["history_len"][0]] for one in alone]
    np.testing.assert_array_equal(flat, np.concatenate(parts))


def test_the_files_of_a_bundle_hold_all_of_it(encoder: Encoder) -> None:
    """Written and read back it encodes the same, and a hashed feature has no file."""
    files = encoder_files(encoder)
    again = read_encoder(SCHEMA, files)
    request = {"langs": [["no"]], "age": [25]}, {"device": ["d-1"], "wait": [3.0]}

    assert "vocab/device.npy" not in files
    assert encoder_files(again) == files
    for one, other in (
        (encoder.encode_request(*request, rows=1), again.encode_request(*request, rows=1)),
        (encoder.encode_items({"item_id": [1, 2, 3, 4]}), again.encode_items({"item_id": [1, 2, 3, 4]})),
    ):
        assert {n: t.tolist() for n, t in one.items()} == {n: t.tolist() for n, t in other.items()}


def edited(side: str, i: int, **changes: object) -> dict[str, object]:
    """The table with one feature changed."""
    features = [dict(feature) for feature in TABLE[side]]
    features[i] |= changes
    return {**TABLE, side: features}


@pytest.mark.parametrize(
    ("table", "key", "found"),
    [
        (edited("user", 1, hash_buckets=10), "schema.user[1].hash_buckets", "10"),
        (edited("user", 0, transform="log"), "schema.user[0].transform", "'log'"),
        (edited("context", 0, min_count=3), "schema.context[0].min_count", "3"),
        (edited("context", 0, pooling="sum"), "schema.context[0].pooling", "'sum'"),
        (edited("context", 1, buckets=3), "schema.context[1].buckets", "3"),
        (edited("item", 0, missing=1.0), "schema.item[0].missing", "1.0"),
        (edited("item", 0, kind="multi"), "schema.keys.item", "'item_id'"),
        ({**TABLE, "times": {"column": "t", "gaps": ["next", "next"]}}, "schema.times.gaps", "['next', 'next']"),
        ({**TABLE, "times": {"column": "t", "cut_s": -1}}, "schema.times.cut_s", "-1"),
        ({**TABLE, "behavior": [{"shares": "price", "column": "p"}]}, "schema.behavior[0].shares", "'price'"),
    ],
)
def test_an_option_without_a_meaning_is_refused(table: dict[str, object], key: str, found: str) -> None:
    """The message names the file, the key, what was found and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        schema_from_table(table, file="x.toml")
    assert str(caught.value).startswith(f"x.toml: {key}: found {found}, allowed: ")
