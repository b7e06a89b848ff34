"""Item features that become known after encoding, and raw values taken out of the catalogue again."""

import numpy as np
import pytest

from model.bundle.catalogue import Catalogue
from model.bundle.dense import Buckets, Scaling
from model.bundle.encode import Encoder
from model.bundle.errors import EncodeError
from model.bundle.raw import Lists
from model.bundle.schema import Feature, Schema
from model.bundle.vocabulary import Hashed, Vocabulary

SCHEMA = Schema(
    item=(
        Feature(name="item_id"),
        Feature(name="tags", kind="multi", max_values=3),
        Feature(name="brand", dtype="str", hash_buckets=50),
        Feature(name="stock", kind="dense", transform="bucketise"),
        Feature(name="price", kind="dense"),
    ),
)
COLUMNS = {
    "tags": Lists(values=np.array([8, 7, 8, 9, 7]), lengths=np.array([1, 4, 0])),
    "brand": np.array(["a", "b", "a"]),
    "stock": np.array([0.5, np.nan, 11.0]),
    "price": np.array([10.0, 12.0, np.nan]),
}
RAW = {
    "tags": [[8], [7, 8, 9, 7], []],
    "brand": ["a", "b", "a"],
    "stock": [0.5, None, 11.0],
    "price": [10.0, 12.0, None],
}
ITEMS = np.array([1, 2, 3])


def make(ids: np.ndarray) -> Encoder:
    """An encoder whose catalogue has these items of the three."""
    rows = np.flatnonzero(np.isin(ITEMS, ids))
    tags = COLUMNS["tags"]
    lists = tags.rows(rows)
    kept = {name: column[rows] for name, column in COLUMNS.items() if name != "tags"}
    flat = np.array([tag for one in lists for tag in one], dtype=np.int64)
    kept["tags"] = Lists(values=flat, lengths=np.array(list(map(len, lists)), dtype=np.int64))
    return Encoder(
        SCHEMA,
        {"item_id": Vocabulary(np.array([1, 2])), "tags": Vocabulary(np.array([7, 8, 9])), "brand": Hashed(50)},
        scalings={"stock": Buckets(edges=(1.0, 10.0)), "price": Scaling(mean=10.0, std=2.0)},
        catalogue=Catalogue(ids=ids, columns=kept),
    )


@pytest.fixture(scope="module")
def whole() -> Encoder:
    """It knows all three items."""
    return make(ITEMS)


def test_raw_values_come_back_out_of_the_catalogue(whole):
    """In the order asked for; None for an unknown number and for an item that is not there."""
    rows = whole.catalogue_rows(np.array([3, 9, 1, 2]))

    assert rows.tolist() == [2, -1, 0, 1]
    for name, raw in RAW.items():
        assert whole.catalogue.values(name, rows) == [raw[2], None, raw[0], raw[1]]


def test_an_empty_catalogue_knows_nothing():
    """A bundle may have one."""
    none = make(np.array([], dtype=np.int64))
    rows = none.catalogue_rows(np.array([1, 2]))

    assert rows.tolist() == [-1, -1]
    assert none.catalogue.values("price", rows) == [None, None]


def test_features_filled_in_later_are_as_if_known_before(whole):
    """Every kind of feature; what nobody knows stays as it was."""
    part = make(np.array([1]))
    asked = {"item_id": np.array([2, 1, 3, 2])}
    encoded, expected = part.encode_items(asked), whole.encode_items(asked)
    for name, raw in RAW.items():
        for row, item in ((0, 2), (2, 3), (3, 2)):
            if raw[item - 1] is not None:
                part.fill_items(encoded, np.array([row]), {name: [raw[item - 1]]})

    assert encoded.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(encoded[name], tensor)


@pytest.mark.parametrize("wrong", [{"price": ["dear"]}, {"tags": [7]}, {"brand": [3]}, {"tags": [[-1]]}])
def test_a_value_that_does_not_fit_changes_nothing(whole, wrong):
    """The error says which feature; what was encoded is as before, the features before it in the call too."""
    encoded = whole.encode_items({"item_id": ITEMS})
    before = {name: tensor.copy() for name, tensor in encoded.items()}
    with pytest.raises(EncodeError, match=next(iter(wrong))):
        whole.fill_items(encoded, np.array([0]), {"stock": [100.0], **wrong})

    for name, tensor in before.items():
        np.testing.assert_array_equal(encoded[name], tensor)
