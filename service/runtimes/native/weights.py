"""`candidate.npz` read and checked: an array that the kernel gets a pointer to has the shape that it expects.

Shapes: E width of the target, H of what the attention reads, X of the other item features, J outputs of a layer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.errors import BundleError
from model.bundle.manifest import NativeHalf
from model.bundle.schema import Schema

Array = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """Of one head layer. `scale` and `shift` are there for Dice only."""

    alpha: Array
    scale: Array | None
    shift: Array | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A sparse item feature: its embeddings [rows, dim] and its column of item_sparse."""

    rows: Array
    column: int


@dataclass(frozen=True, kw_only=True)
class CandidateWeights:
    """The candidate half by name. A layer is (weight [J, inputs], bias [J])."""

    tables: list[Table]  # the target's first, in the behaviors' order
    columns: int  # of item_sparse
    dense: int  # of item_dense
    width: int  # E
    query: Array  # [E, J]
    key: Array  # [H, J]
    product: Array  # [E, J]
    attention_bias: Array  # [J]
    attention: list[tuple[Array, Array]]  # the last one has J = 1
    softmax: bool
    gates: tuple[Array, Array] | None  # AUGRU's, J = 3H
    head_first: Array  # [J, 3E + X]
    head: list[tuple[Array, Array]]  # after the first; the last one has J = 1
    activations: list[Activation]  # of every layer of the head but the last


def read_weights(native: NativeHalf, schema: Schema, arrays: Tensors) -> CandidateWeights:
    """Check `arrays`, the content of `native.file`. Raises BundleError naming that file if one is missing or unfit."""
    return _Reader(native, schema, arrays).read()


class _Reader:
    """Takes arrays by name and checks them. Sizes come from the arrays themselves, the widths from the schema."""

    def __init__(self, native: NativeHalf, schema: Schema, arrays: Tensors) -> None:
        self._native, self._schema, self._arrays = native, schema, arrays

    def read(self) -> CandidateWeights:
        tables, width, extra = self._tables()
        (first,) = self._take("attention.bias", (None,)).shape
        attention, head_first = (
            self._layers("attention", first),
            self._take("head.candidate", (None, 3 * width + extra)),
        )
        head = self._layers("head", head_first.shape[0])
        return CandidateWeights(
            tables=tables,
            columns=len(self._schema.sparse("item")),
            dense=len(self._schema.dense("item")),
            width=width,
            query=self._take("attention.query", (width, first)),
            key=self._take("attention.key", (width, first)),
            product=self._take("attention.product", (width, first)),
            attention_bias=self._take("attention.bias", (first,)),
            attention=attention,
            softmax=self._native.softmax,
            gates=self._gates(width),
            head_first=head_first,
            head=head,
            activations=[self._activation(i, weight.shape[1]) for i, (weight, _) in enumerate(head)],
        )

    def _tables(self) -> tuple[list[Table], int, int]:
        """Tables in the order of the kernel's rows, the target's width, and that of the other features."""
        names = [feature.name for feature in self._schema.sparse("item")]
        shared = [sequence.shares for sequence in self._schema.behavior]
        others = [name for name in names if name not in shared]
        dims = {feature.name: feature.dim for feature in self._schema.sparse("item")}
        tables = [
            Table(rows=self._take(f"table.{name}", (None, dims[name])), column=names.index(name))
            for name in (*shared, *others)
        ]
        extra = sum(dims[name] for name in others) + len(self._schema.dense("item"))
        return tables, sum(dims[name] for name in shared), extra

    def _layers(self, part: str, inputs: int) -> list[tuple[Array, Array]]:
        """Layers 1, 2, ... of `part`, where each reads what the one before gives, down to one output."""
        layers: list[tuple[Array, Array]] = []
        while f"{part}.{len(layers) + 1}.weight" in self._arrays:
            name = f"{part}.{len(layers) + 1}"
            weight = self._take(f"{name}.weight", (None, inputs))
            inputs = weight.shape[0]
            layers.append((weight, self._take(f"{name}.bias", (inputs,))))
        if not layers or inputs != 1:
            raise BundleError(self._native.file, f"{part} does not end in one output")
        return layers

    def _gates(self, hidden: int) -> tuple[Array, Array] | None:
        if self._native.kind != "dien":
            return None
        return self._take("augru.weight", (3 * hidden, hidden)), self._take("augru.bias", (3 * hidden,))

    def _activation(self, i: int, size: int) -> Activation:
        dice = self._native.activation == "dice"
        return Activation(
            alpha=self._take(f"head.{i}.alpha", (size,)),
            scale=self._take(f"head.{i}.scale", (size,)) if dice else None,
            shift=self._take(f"head.{i}.shift", (size,)) if dice else None,
        )

    def _take(self, name: str, shape: tuple[int | None, ...]) -> Array:
        """The array `name`; None in `shape` is any length but 0."""
        array = self._arrays.get(name)
        if array is None:
            raise BundleError(self._native.file, f"has no {name}")
        fits = array.ndim == len(shape) and all(
            n > 0 and n == wanted if wanted is not None else n > 0 for n, wanted in zip(array.shape, shape, strict=True)
        )
        if array.dtype != np.float32 or not fits:
            raise BundleError(self._native.file, f"{name} is {array.dtype} {array.shape}, expected float32 {shape}")
        return np.ascontiguousarray(array)
