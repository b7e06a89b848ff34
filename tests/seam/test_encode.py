"""The one encoder: exact in int64, refusing what it cannot encode, the same after a round trip through files."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bundle.catalogue import Catalogue
from model.bundle.dense import Scaling
from model.bundle.encode import Encoder
from model.bundle.errors import BundleError, EncodeError
from model.bundle.folder import encoder_files, read_encoder
from model.bundle.raw import as_ids, as_numbers, as_texts
from model.bundle.records import Behaviors, make_behaviors
from model.bundle.schema import FIRST_ID, PADDING, UNKNOWN, Feature, Keys, Schema, Sequence
from model.bundle.vocabulary import Vocabulary

LARGEST = 2**63 - 1
ITEMS = [5, 16_777_216, 16_777_217, 2**62, LARGEST]  # 16777217 is the first integer that float32 lacks

SCHEMA = Schema(
    item=(
        Feature(name="item_id"),
        Feature(name="cate_id"),
        Feature(name="brand", dtype="str"),
        Feature(name="price", kind="dense"),
    ),
    user=(Feature(name="segment", dtype="str"), Feature(name="age", kind="dense")),
    context=(Feature(name="hour"),),
    behavior=(
        Sequence(shares="item_id", column="hist_item_ids"),
        Sequence(shares="cate_id", column="hist_cate_ids"),
        Sequence(shares="brand", column="hist_brands"),
    ),
    keys=Keys(category="cate_id"),
    max_history=4,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Every kind of feature. The catalogue also has item 7, which training never saw."""
    return Encoder(
        SCHEMA,
        {
            "item_id": Vocabulary(np.array(ITEMS)),
            "cate_id": Vocabulary(np.array([10, 20, 30])),
            "brand": Vocabulary(np.array(["acme", "ökonom"])),
            "segment": Vocabulary(np.array(["new", "loyal"])),
            "hour": Vocabulary(np.arange(24)),
        },
        scalings={"price": Scaling(mean=10.0, std=2.0), "age": Scaling(mean=40.0, std=0.1)},
        catalogue=Catalogue(
            ids=np.array([*ITEMS, 7]),
            columns={
                "cate_id": np.array([10, 20, 20, 30, 99, 10]),
                "brand": np.array(["acme", "ökonom", "acme", "other", "acme", "ökonom"]),
                "price": np.array([10.0, 12.0, 8.0, 10.0, 1e6, 14.0]),
            },
        ),
    )


def test_ids_are_exact_up_to_the_largest_int64(encoder: Encoder) -> None:
    """Neighbours that a float would merge stay apart, and one more or less is another id."""
    sparse = encoder.encode_items({"item_id": [*ITEMS, LARGEST - 1, 2**62 + 1, 16_777_218]})["item_sparse"]

    assert sparse.dtype == np.int64
    assert sparse[:, 0].tolist() == [2, 3, 4, 5, 6, UNKNOWN, UNKNOWN, UNKNOWN]


WRONG_IDS = [-1, 2**63, 2**64, True, 1.0, float("nan"), "5", None, [5]]


@pytest.mark.parametrize("wrong", WRONG_IDS, ids=repr)
@pytest.mark.parametrize("before", [[], [5], [LARGEST]])
def test_a_value_that_is_no_id_is_refused(encoder: Encoder, before: list[int], wrong: object) -> None:
    """Alone or after a good one; the message has the feature, the value at fault and what is allowed."""
    said = f"cate_id: found {wrong!r}, allowed: integers from 0 to 2^63 - 1"
    with pytest.raises(EncodeError) as caught:
        encoder.encode_items({"item_id": [5] * (len(before) + 1), "cate_id": [*before, wrong]})
    assert str(caught.value) == said

    with pytest.raises(EncodeError, match=r"^hour: found "):
        encoder.encode_request({}, {"hour": [*before, wrong]}, rows=len(before) + 1)


@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.float64, np.str_, np.object_])
def test_arrays_of_another_kind_are_no_ids(dtype: type) -> None:
    """Not even floats that happen to be whole."""
    with pytest.raises(EncodeError, match=r"^f: found .*, allowed: integers"):
        as_ids(np.array([1, 1]).astype(dtype), feature="f")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.uint32, np.uint64])
def test_integers_of_every_width_are_ids(dtype: type) -> None:
    """They come out as int64; uint64 only below 2^63."""
    assert as_ids(np.array([0, 100], dtype=dtype), feature="f").tolist() == [0, 100]
    assert as_ids([], feature="f").dtype == as_ids(np.array([1], dtype=dtype), feature="f").dtype == np.int64
    with pytest.raises(EncodeError, match=f"found .*{2**63}"):
        as_ids(np.array([1, 2**63], dtype=np.uint64), feature="f")


@pytest.mark.parametrize(
    "wrong", [float("nan"), float("inf"), -float("inf"), True, "1", None, 10**400, [1.0]], ids=lambda w: repr(w)[:9]
)
@pytest.mark.parametrize("before", [[], [1.5]])
def test_a_value_that_is_no_finite_number_is_refused(encoder: Encoder, before: list[float], wrong: object) -> None:
    """Alone or after a good one; a long value is shortened in the message."""
    with pytest.raises(EncodeError, match=r"^price: found .{1,90}, allowed: finite numbers$"):
        encoder.encode_items({"item_id": [5] * (len(before) + 1), "price": [*before, wrong]})


def test_arrays_of_numbers_are_checked_too() -> None:
    """One NaN in a column of a log is found; integers are numbers, truth values are not."""
    assert as_numbers(np.array([1, 2]), feature="f").tolist() == [1.0, 2.0]
    for wrong in (np.array([1.0, np.nan]), np.array([True]), np.array(["1"])):
        with pytest.raises(EncodeError, match=r"^f: found .*, allowed: finite numbers"):
            as_numbers(wrong, feature="f")


def test_text_ids_are_text(encoder: Encoder) -> None:
    """A text feature takes strings of any script and nothing else."""
    sparse = encoder.encode_items({"item_id": [5] * 3, "brand": ["ökonom", "nobody", ""]})["item_sparse"]
    assert sparse[:, 2].tolist() == [3, UNKNOWN, UNKNOWN]

    with pytest.raises(EncodeError, match=r"^brand: found 3, allowed: strings"):
        encoder.encode_items({"item_id": [5, 5], "brand": ["acme", 3]})
    with pytest.raises(EncodeError, match=r"^f: found None, allowed: strings"):
        as_texts([None], feature="f")


def test_missing_features_are_unknown_or_the_mean(encoder: Encoder) -> None:
    """Nothing given about the user and the context: index 1, and 0, the mean once standardised."""
    out = encoder.encode_request({}, {}, rows=2)

    assert {name: tensor.tolist() for name, tensor in out.items()} == {
        "user_sparse": [[UNKNOWN], [UNKNOWN]],
        "user_dense": [[0.0], [0.0]],
        "context_sparse": [[UNKNOWN], [UNKNOWN]],
    }
    assert out["user_dense"].dtype == np.float32


def test_dense_values_are_standardised_and_clipped(encoder: Encoder) -> None:
    """(value - mean) / std within [-10, 10], also where the division would leave the range of floats."""
    out = encoder.encode_request({"age": [40.05, 39.8, 1.7e308, -1.7e308]}, {}, rows=4)["user_dense"]

    assert out[:, 0] == pytest.approx([0.5, -2.0, 10.0, -10.0], rel=1e-5)


def test_the_catalogue_fills_what_a_candidate_does_not_say(encoder: Encoder) -> None:
    """By item id; what is said wins; an item that nobody told us about is unknown with mean price."""
    filled = encoder.encode_items({"item_id": [16_777_217, 7, 8]})
    said = encoder.encode_items({"item_id": [16_777_217, 8], "cate_id": [30, 10], "price": [14.0, 8.0]})

    assert filled["item_sparse"].tolist() == [[4, 3, 2], [UNKNOWN, 2, 3], [UNKNOWN] * 3]
    assert filled["item_dense"].tolist() == [[-1.0], [2.0], [0.0]]
    assert said["item_sparse"].tolist() == [[4, 4, 2], [UNKNOWN, 2, UNKNOWN]]
    assert said["item_dense"].tolist() == [[2.0], [-1.0]]


def test_one_request_does_not_change_the_next(encoder: Encoder) -> None:
    """Overriding a candidate's features leaves the catalogue alone."""
    before = everything(encoder, make_behaviors(ITEMS))
    encoder.encode_items({"item_id": ITEMS, "cate_id": [10] * 5, "price": [0.0] * 5})
    assert everything(encoder, make_behaviors(ITEMS)) == before


def test_unknown_items_and_unknown_features_are_told(encoder: Encoder) -> None:
    """A known item of an unknown category is a known item with an unknown feature."""
    encoded = encoder.encode_items({"item_id": [5, LARGEST, 8]})

    assert encoder.unknown_items(encoded).tolist() == [False, False, True]
    assert encoder.unknown_features(encoded).tolist() == [False, True, True]


def test_a_history_keeps_the_newest_and_is_padded_at_the_end(encoder: Encoder) -> None:
    """Oldest first, `max_history` of them, 0 after the last one."""
    five, one, none = make_behaviors(ITEMS), make_behaviors([5]), make_behaviors([])

    out = encoder.encode_history([five, one, none])

    assert out["history"].dtype == out["history_len"].dtype == np.int64
    assert out["history_len"].tolist() == [4, 1, 0]
    assert out["history"][..., 0].tolist() == [[3, 4, 5, 6], [2, 0, 0, 0], [0, 0, 0, 0]]
    assert (out["history"][1, 1:] == PADDING).all()
    assert encoder.encode_history([none])["history"].tolist() == [[[PADDING] * 3]]


def test_behaviors_get_what_they_do_not_carry_from_the_catalogue(encoder: Encoder) -> None:
    """A category that is given wins over the catalogue's; a brand always comes from the catalogue."""
    given = encoder.encode_behaviors(make_behaviors([5, 5, 8], category=[30, 99, 20]))
    looked_up = encoder.encode_behaviors(make_behaviors([16_777_216, 7, 8]))

    assert given.tolist() == [[2, 4, 2], [2, UNKNOWN, 2], [UNKNOWN, 3, UNKNOWN]]
    assert looked_up.tolist() == [[3, 3, 3], [UNKNOWN, 2, 3], [UNKNOWN] * 3]


ids = st.one_of(st.integers(0, 60), st.integers(LARGEST - 60, LARGEST), st.integers(0, LARGEST))


@given(st.lists(ids, unique=True, max_size=30), st.lists(ids, max_size=30), st.booleans())
def test_a_vocabulary_is_a_dictionary(keys: list[int], wanted: list[int], close: bool) -> None:
    """Dense table and binary search, in any order of keys, agree with a plain dict; keys come back as their places."""
    keys = sorted({key % 500 for key in keys}, reverse=True) if close else keys
    vocabulary = Vocabulary(np.array(keys, dtype=np.int64))
    index = {key: at for at, key in enumerate(keys, start=FIRST_ID)}
    asked = [*wanted, *keys, *(min(key + 1, LARGEST) for key in keys), 0, LARGEST]

    found = vocabulary.lookup(np.array(asked, dtype=np.int64))

    assert found.dtype == np.int64
    assert found.tolist() == [index.get(one, UNKNOWN) for one in asked]
    assert len(vocabulary) == len(keys) + FIRST_ID


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), unique=True, max_size=20))
def test_a_text_vocabulary_is_a_dictionary(keys: list[str]) -> None:
    """Keys of any script and length come back as their places, and a longer text is another one."""
    vocabulary = Vocabulary(np.array(keys, dtype=np.str_))

    assert vocabulary.lookup(keys).tolist() == list(range(FIRST_ID, FIRST_ID + len(keys)))
    assert vocabulary.lookup(["x" * 300]).tolist() == [UNKNOWN]


def everything(encoder: Encoder, behaviors: Behaviors) -> dict[str, list[object]]:
    """What an encoder makes of one request with all features."""
    request = encoder.encode_request({"segment": ["loyal"], "age": [41.0]}, {"hour": [23]}, rows=1)
    items = encoder.encode_items({"item_id": [*ITEMS, 7, 8]})
    return {name: t.tolist() for name, t in {**request, **items, **encoder.encode_history([behaviors])}.items()}


def test_an_encoder_survives_its_files(encoder: Encoder) -> None:
    """Written as a bundle holds it and read back, it encodes the same; equal encoders give equal bytes."""
    files = encoder_files(encoder)
    behaviors = make_behaviors([5, LARGEST, 8], category=[20, -1, 30])

    again = read_encoder(SCHEMA, files)

    assert everything(again, behaviors) == everything(encoder, behaviors)
    assert encoder_files(again) == files


def test_a_file_that_is_missing_or_damaged_is_named(encoder: Encoder) -> None:
    """Whichever file of the encoder it is."""
    files = encoder_files(encoder)
    for name in files:
        for broken in ({**files, name: b"\x93NUMPY"}, {**files, name: b""}):
            with pytest.raises(BundleError, match=f"^{name}: "):
                read_encoder(SCHEMA, broken)
    with pytest.raises(BundleError, match=r"^vocab/shop\.npy: "):
        read_encoder(dataclasses.replace(SCHEMA, context=(Feature(name="shop"),)), files)
