"""Weights as the kernel wants them: outputs in zero-padded blocks, and constants folded into them.

sigmoid(x) = 1 / (1 + 2^(-log2(e) x)), so the kernel's gate 1 / (1 + 2^t) needs t = -log2(e) x: the factor goes into the
layer before. tanh(x) = 1 - 2 / (1 + 2^(2 log2(e) x)) likewise, for AUGRU's candidate state.
"""

from ctypes import POINTER, Structure, cast
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.runtimes.native.library import Field, Layer, Net
from service.runtimes.native.weights import Activation, CandidateWeights

Factor = NDArray[np.float64] | np.float64
Member = TypeVar("Member", bound=Structure)
Floats = NDArray[np.float32]

_BLOCK, _TILE, _TILE_INPUTS = 10, 16, 32  # as in kernel.h
_SIGMOID, _DICE, _PRELU = 0, 1, 2
_ONE = np.float64(1)
_FOLD = -1.4426950408889634  # -log2(e)


class PackedNet:
    """The struct that the kernel reads, and every array that it points to."""

    def __init__(self, weights: CandidateWeights, *, tiles: bool = False) -> None:
        """Pack, with `tiles` the attention's layers in bfloat16 too. Embedding tables are used in place, not copied."""
        self._kept: list[object] = []
        self._tiles = tiles
        self.struct = Net(
            width=weights.width,
            hidden=len(weights.key),
            softmax=weights.softmax,
            recurrent=weights.gates is not None,
            columns=weights.columns,
            dense=weights.dense,
            head_width=weights.head_first.shape[0],
        )
        self._fields(weights)
        self._attention(weights)
        self._head(weights)
        if weights.gates:
            factor = np.repeat([_FOLD, _FOLD, -2 * _FOLD], len(weights.key))  # r and u are sigmoids, c is a tanh
            self.struct.gates = self._layer(weights.gates[0], weights.gates[1], factor=factor)

    def _fields(self, weights: CandidateWeights) -> None:
        fields = []
        for table in weights.tables:
            rows, dim = table.rows.shape
            fields.append(Field(table=self._keep(table.rows), rows=rows, dim=dim, column=table.column))
        self.struct.fields, self.struct.field = len(fields), self._array(Field, fields)

    def _attention(self, weights: CandidateWeights) -> None:
        struct, factor = self.struct, np.float64(_FOLD)
        struct.query = self._layer(weights.query.T, weights.attention_bias, factor=factor)
        struct.product = self._layer(weights.product.T, None, factor=factor, tiles=self._tiles)
        struct.key_weight = self._keep(_padded(weights.key * factor, axis=1))
        *hidden, (last, bias) = weights.attention
        layers = [self._layer(w, b, factor=factor, tiles=self._tiles) for w, b in hidden]
        struct.attention_layers, struct.attention = len(layers), self._array(Layer, layers)
        struct.score_inputs, struct.score_weight, struct.score_bias = last.shape[1], self._keep(last[0]), bias[0]

    def _head(self, weights: CandidateWeights) -> None:
        struct = self.struct
        *hidden, (last, bias) = weights.head
        plain = [(weights.head_first, None), *hidden]
        layers = [self._layer(w, b) for w, b in plain]
        for layer, activation in zip(layers, weights.activations, strict=True):
            self._activate(layer, activation)
        struct.head_layers, struct.head = len(layers), self._array(Layer, layers)
        struct.logit_inputs, struct.logit_weight, struct.logit_bias = last.shape[1], self._keep(last[0]), bias[0]

    def _activate(self, layer: Layer, activation: Activation) -> None:
        alpha = activation.alpha
        layer.activation, layer.alpha = _PRELU, self._keep(_padded(alpha, axis=0))
        if activation.scale is None or activation.shift is None:
            return
        layer.activation, layer.beta = _DICE, self._keep(_padded(1 - alpha, axis=0))
        layer.scale = self._keep(_padded(activation.scale * _FOLD, axis=0))
        layer.shift = self._keep(_padded(activation.shift * _FOLD, axis=0))

    def _layer(
        self, weight: NDArray[np.floating], bias: Floats | None, *, factor: Factor = _ONE, tiles: bool = False
    ) -> Layer:
        """[J, inputs] -> blocks of [inputs, _BLOCK], each output multiplied by `factor`."""
        outputs, inputs = weight.shape
        scale = np.broadcast_to(factor, outputs)
        packed = _padded(weight * scale[:, None], axis=0).reshape(-1, _BLOCK, inputs).swapaxes(1, 2)
        start = np.zeros(outputs) if bias is None else bias * scale
        return Layer(
            inputs=inputs,
            outputs=outputs,
            tiles=self._keep_tiles(weight * scale[:, None]) if tiles else None,
            blocks=len(packed),
            activation=_SIGMOID,
            weight=self._keep(packed),
            bias=self._keep(_padded(start, axis=0)),
        )

    def _keep_tiles(self, weight: NDArray[np.floating]) -> int:
        """The address of `weight` [J, inputs] in bfloat16, [J / _TILE][inputs / _TILE_INPUTS][_TILE, _TILE_INPUTS]."""
        whole = _padded(_padded(weight, axis=0, size=_TILE), axis=1, size=_TILE_INPUTS)
        cut = whole.reshape(len(whole) // _TILE, _TILE, -1, _TILE_INPUTS).swapaxes(1, 2)
        bits = np.ascontiguousarray(cut, dtype=np.float32).view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # the upper half, rounded to nearest, ties to even
        halves = nearest.astype(np.uint16)
        self._kept.append(halves)
        return int(halves.ctypes.data)

    def _keep(self, array: NDArray[np.floating]) -> int:
        """The address of `array` as contiguous float32, which lives as long as this object."""
        contiguous = np.ascontiguousarray(array, dtype=np.float32)
        self._kept.append(contiguous)
        return int(contiguous.ctypes.data)

    def _array(self, kind: type[Member], members: list[Member]) -> object:
        array = (kind * len(members))(*members)
        self._kept.append(array)
        return cast(array, POINTER(kind))


def _padded(array: NDArray[np.floating], *, axis: int, size: int = _BLOCK) -> NDArray[np.floating]:
    """Zeros up to a multiple of `size` along `axis`."""
    width = [(0, 0)] * array.ndim
    width[axis] = (0, -array.shape[axis] % size)
    return np.pad(array, width)
