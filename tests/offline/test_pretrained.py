"""Embedding tables from a file: every vector where its id is, everything else as said, and clear errors."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.schema import Feature, Schema, Sequence
from model.bundle.vocabulary import Hashed, Vocabulary
from model.nets.embedding import FeatureEmbedding
from model.pretrained import PretrainedConfig, fill_tables

SCHEMA = Schema(
    item=(Feature(name="item_id", dim=2), Feature(name="brand", dtype="str", dim=3)),
    user=(Feature(name="user_id", hash_buckets=10),),
    behavior=(Sequence(shares="item_id", column="h"),),
)
VECTORS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.fixture
def encoder() -> Encoder:
    """Items 10, 20 and 30, brands a and b, hashed users."""
    vocabularies = {
        "item_id": Vocabulary(np.array([10, 20, 30])),
        "brand": Vocabulary(np.array(["a", "b"])),
        "user_id": Hashed(10),
    }
    catalogue = Catalogue(ids=np.array([10]), columns={"brand": np.array(["a"])})
    return Encoder(SCHEMA, vocabularies, scalings={}, catalogue=catalogue)


@pytest.fixture
def embedding(encoder: Encoder) -> FeatureEmbedding:
    """Freshly drawn tables."""
    return FeatureEmbedding(SCHEMA, encoder.embedding_rows())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["v.npz", "v.parquet"])
def test_vectors_are_written_to_the_rows_of_their_ids(tmp_path, encoder, embedding, name, frozen):
    """In any order, ids that training never saw left out; an id without a vector keeps its start, or 0 if frozen."""
    write(tmp_path / name, np.array([30, 99, 10]), VECTORS)
    before = embedding.tables["item_id"].weight.detach().clone()
    config = PretrainedConfig(feature="item_id", file=Path(name), frozen=frozen)

    found = fill_tables(embedding, encoder, [config], base=tmp_path)

    weight = embedding.tables["item_id"].weight
    assert found == {"item_id": {"found": 2, "missing": 1}}
    assert weight[[2, 4]].tolist() == [[5.0, 6.0], [1.0, 2.0]]
    assert torch.equal(weight[3], torch.zeros(2) if frozen else before[3])
    assert weight[:2].tolist() == [[0.0, 0.0]] * 2
    assert weight.requires_grad is not frozen


@pytest.mark.parametrize(
    ("feature", "content", "said"),
    [
        ("item_id", (np.array([10]), np.ones((1, 3))), r"width of the vectors: found 3, allowed: 2, its `dim`"),
        ("brand", (np.array([10]), np.ones((1, 3))), r"ids: found 'int64', allowed: texts"),
        ("item_id", (np.array(["a"]), np.ones((1, 2))), r"ids: found '<U1', allowed: integers"),
        ("item_id", (np.array([10]), np.array([[1.0, np.nan]])), r"vectors: found 'NaN or infinity'"),
        (
            "user_id",
            (np.array([10]), np.ones((1, 2))),
            r"pretrained\[0\]\.feature: found 'user_id', .*: item_id, brand",
        ),
        ("shop", (np.array([10]), np.ones((1, 2))), r"pretrained\[0\]\.feature: found 'shop'"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path, encoder, feature, content, said):
    """The message names the file, what is in it and what the feature needs."""
    write(tmp_path / "v.npz", *content)
    embedding = FeatureEmbedding(SCHEMA, encoder.embedding_rows())
    with pytest.raises(ConfigError, match=rf"v\.npz: {said}"):
        fill_tables(embedding, encoder, [PretrainedConfig(feature=feature, file=Path("v.npz"))], base=tmp_path)


def test_files_of_another_form_are_refused(tmp_path, encoder, embedding):
    """Not there, no archive, other names inside, rows of different widths."""
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4")
    np.savez(tmp_path / "names.npz", keys=np.array([1]))
    pl.DataFrame({"id": [1, 2], "vector": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "ragged.parquet")
    for name in ("none.npz", "bad.npz", "names.npz", "ragged.parquet", "none.parquet"):
        config = PretrainedConfig(feature="item_id", file=Path(name))
        with pytest.raises(ConfigError, match=rf"{name}: vectors: found .*allowed: an \.npz with `ids`"):
            fill_tables(embedding, encoder, [config], base=tmp_path)


def write(path: Path, ids: np.ndarray, vectors: np.ndarray) -> None:
    """In the form that the name says."""
    if path.suffix == ".npz":
        np.savez(path, ids=ids, vectors=vectors)
    else:
        pl.DataFrame({"id": ids, "vector": vectors.tolist()}).write_parquet(path)
