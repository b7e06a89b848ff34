"""Embedding tables that begin as vectors from a file: id -> vector, learned elsewhere.

file.npz       arrays `ids` [N] and `vectors` [N, width]
file.parquet   columns `id` and `vector`, a list of numbers

The file is read in training only: what the bundle holds is the table. N ids of the file, E width of the feature.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.schema import FIRST_ID
from model.bundle.vocabulary import Vocabulary
from model.nets.embedding import FeatureEmbedding

_ALLOWED = "an .npz with `ids` and `vectors`, or a .parquet with columns `id` and `vector`"

Vectors = NDArray[np.float32]
FileIds = NDArray[np.int64] | NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Vectors of one feature's ids. A relative `file` starts at the training file's folder."""

    feature: str
    file: Path
    frozen: bool = False  # the table stays as it is; otherwise training goes on from there


def fill_tables(
    embedding: FeatureEmbedding, encoder: Encoder, pretrained: Sequence[PretrainedConfig], *, base: Path
) -> dict[str, dict[str, int]]:
    """Write the vectors into the tables, in place; by feature how many ids of its vocabulary were found, and were not.

    An id without a vector keeps its random start, or 0, "nothing is known", where the table is frozen. Raises
    ConfigError naming the file, what it holds and what the feature needs.
    """
    found = {}
    for i, config in enumerate(pretrained):
        path, key = base / config.file, f"pretrained[{i}]"
        vocabulary = _vocabulary(config.feature, encoder, file=str(path), key=key)
        ids, vectors = read_vectors(path)
        table = embedding.tables[config.feature].get_parameter("weight")
        _check_fit(ids, vectors, vocabulary, width=table.shape[1], file=str(path))
        index = vocabulary.lookup(ids if ids.dtype.kind != "U" else ids.tolist())  # type: ignore[arg-type]  # of the vocabulary's kind
        known = index >= FIRST_ID
        with torch.no_grad():
            if config.frozen:
                table.zero_()
            table[torch.from_numpy(index[known])] = torch.from_numpy(vectors[known])
        table.requires_grad_(not config.frozen)
        hits = len(np.unique(index[known]))
        found[config.feature] = {"found": hits, "missing": len(vocabulary.keys) - hits}
    return found


def read_vectors(path: Path) -> tuple[FileIds, Vectors]:
    """Ids [N], int64 or text, and their vectors [N, E]. Raises ConfigError naming the file and what is wrong in it."""
    try:
        ids, vectors = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, PolarsError) as error:
        why = str(error).partition("\n")[0][:200]
        raise ConfigError(file=str(path), key="vectors", found=why, allowed=_ALLOWED) from error
    if ids.dtype.kind not in "iuU" or ids.ndim != 1 or vectors.shape[:-1] != ids.shape:
        found = f"ids {ids.dtype} {ids.shape}, vectors {vectors.shape}"
        raise ConfigError(file=str(path), key="vectors", found=found, allowed="[N] integers or texts, [N, width]")
    if not np.isfinite(vectors).all():
        raise ConfigError(file=str(path), key="vectors", found="NaN or infinity", allowed="finite numbers")
    return (ids if ids.dtype.kind == "U" else ids.astype(np.int64)), vectors  # type: ignore[return-value]  # checked


def _read_npz(path: Path) -> tuple[NDArray[np.generic], Vectors]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        return archive["ids"], archive["vectors"].astype(np.float32)


def _read_parquet(path: Path) -> tuple[NDArray[np.generic], Vectors]:
    frame = pl.read_parquet(path, columns=["id", "vector"], glob=False)
    if frame["id"].null_count() or frame["vector"].null_count():
        raise ValueError("missing values")
    ids, vectors = frame["id"], frame["vector"]
    if isinstance(vectors.dtype, pl.List):
        vectors = vectors.cast(pl.Array(pl.Float32, len(vectors[0]) if len(vectors) else 0))
    texts = ids.dtype == pl.String
    return (np.array(ids.to_list(), dtype=np.str_) if texts else ids.to_numpy()), vectors.to_numpy().astype(np.float32)


def _vocabulary(feature: str, encoder: Encoder, *, file: str, key: str) -> Vocabulary:
    vocabulary = encoder.vocabularies.get(feature)
    if isinstance(vocabulary, Vocabulary):
        return vocabulary
    listed = [name for name, index in encoder.vocabularies.items() if isinstance(index, Vocabulary)]
    allowed = "a feature with a vocabulary: " + ", ".join(listed)
    raise ConfigError(file=file, key=f"{key}.feature", found=feature, allowed=allowed)


def _check_fit(ids: FileIds, vectors: Vectors, vocabulary: Vocabulary, *, width: int, file: str) -> None:
    if vectors.shape[1] != width:
        raise ConfigError(file=file, key="width of the vectors", found=vectors.shape[1], allowed=f"{width}, its `dim`")
    if vocabulary.is_text != (ids.dtype.kind == "U"):
        allowed = "texts" if vocabulary.is_text else "integers"
        raise ConfigError(file=file, key="ids", found=str(ids.dtype), allowed=f"{allowed}, as the feature's")
