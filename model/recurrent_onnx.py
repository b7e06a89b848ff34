"""The nets' loops for the exporter: operators that stay loops, whatever the length of the history.

GRU is ONNX's own operator. The loops per candidate are a Scan; its step works on [U, H, C], gates as rows, so that
splitting them is a plain copy and every product is one GEMM: 1.5 times faster in ONNX Runtime than [U, C, H]
(docs/log.md, 2026-11-22).
"""

from collections.abc import Callable
from typing import Any, Self

import onnx_ir as ir
import torch
from onnxscript import opset20

import model.recurrent_ops  # noqa: F401  # registers the operators that are translated here

op: Any = opset20  # its stubs know tensors only, not the values that the exporter passes in
_Value = Any  # such a value, an ir.Value: what these stubs give for one has no type

_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_Begun = tuple["_Step", ir.Value, ir.Value, ir.Value]


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export(custom_translation_table=...)` needs to know. `Any`: the exporter's own types."""
    ops = torch.ops.ctr
    return {
        ops.gru.default: _gru,
        ops.augru.default: _augru,
        ops.augru_public.default: _augru_public,
        ops.aigru.default: _aigru,
        ops.augru_updates.default: _augru_updates,
        ops.augru_public_updates.default: _augru_public_updates,
        ops.aigru_updates.default: _aigru_updates,
    }


def _gru(x_ULE: _Value, weight_GE: _Value, weight_GH: _Value, input_bias_G: _Value, hidden_bias_G: _Value) -> _Value:
    hidden = int(weight_GH.shape[1])
    one = op.Constant(value_ints=[0])
    first, middle, third, end = (op.Constant(value_ints=[i * hidden]) for i in range(4))

    def reordered(gates: _Value) -> _Value:
        """Our (r, u, c) as ONNX's (z, r, c), with the axis of directions: z = 1 - u = sigmoid(-x)."""
        r, u, c = op.Slice(gates, first, middle), op.Slice(gates, middle, third), op.Slice(gates, third, end)
        return op.Unsqueeze(op.Concat(op.Neg(u), r, c, axis=0), one)

    bias = op.Concat(reordered(input_bias_G), reordered(hidden_bias_G), axis=1)
    x_LUE = op.Transpose(x_ULE, perm=[1, 0, 2])
    states, _ = op.GRU(
        x_LUE, reordered(weight_GE), reordered(weight_GH), bias, hidden_size=hidden, linear_before_reset=1
    )
    return op.Transpose(op.Squeeze(states, op.Constant(value_ints=[1])), perm=[1, 0, 2])


def _augru(inputs_ULG: _Value, attention_UCL: _Value, weight_GH: _Value, bias_G: _Value) -> _Value:
    return _augru_step(inputs_ULG, attention_UCL, weight_GH, bias_G).last_state(attention_UCL)


def _augru_updates(inputs_ULG: _Value, attention_UCL: _Value, weight_GH: _Value, bias_G: _Value) -> _Value:
    return _augru_step(inputs_ULG, attention_UCL, weight_GH, bias_G).updates(attention_UCL)


def _augru_step(inputs_ULG: _Value, attention_UCL: _Value, weight_GH: _Value, bias_G: _Value) -> "_Step":
    step, a, u, c = _augru_gates(inputs_ULG, attention_UCL, weight_GH, bias_G)
    return step.move(step.add("Mul", a, u), c)


def _augru_gates(inputs_ULG: _Value, attention_UCL: _Value, weight_GH: _Value, bias_G: _Value) -> "_Begun":
    """The beginning of a step: attention a, update gate u and candidate state c."""
    gates = _Gates(weight_GH)
    bias_ru, bias_c = gates.parts(bias_G, axis=0)
    x_ru, x_c = gates.parts(inputs_ULG, axis=2)
    step = _Step(gates, op.Unsqueeze(bias_c, _at(1)))
    x_ru, x_c = step.per_user(op.Add(x_ru, bias_ru)), step.per_user(x_c)
    return step, step.per_candidate(attention_UCL), *step.gates_of(x_ru, x_c)


def _augru_public(
    inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_G: _Value
) -> _Value:
    return _augru_public_step(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G).last_state(attention_UCL)


def _augru_public_updates(
    inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_G: _Value
) -> _Value:
    return _augru_public_step(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G).updates(attention_UCL)


def _augru_public_step(
    inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_G: _Value
) -> "_Step":
    step, a, u, c = _augru_gates(inputs_ULG, attention_UCL, weight_GH, bias_G)
    rest = step.per_candidate(op.Sub(op.Unsqueeze(mask_UL, _at(1)), attention_UCL))
    return step.move(step.add("Add", a, step.add("Mul", rest, u)), c)


def _aigru(inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_2G: _Value) -> _Value:
    return _aigru_step(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G).last_state(attention_UCL)


def _aigru_updates(
    inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_2G: _Value
) -> _Value:
    return _aigru_step(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G).updates(attention_UCL)


def _aigru_step(
    inputs_ULG: _Value, attention_UCL: _Value, mask_UL: _Value, weight_GH: _Value, bias_2G: _Value
) -> "_Step":
    gates = _Gates(weight_GH)
    input_ru, input_c = gates.parts(op.Gather(bias_2G, op.Constant(value_int=0)), axis=0)
    hidden_ru, hidden_c = gates.parts(op.Gather(bias_2G, op.Constant(value_int=1)), axis=0)
    bias_ru, bias_c = op.Unsqueeze(op.Add(input_ru, hidden_ru), _at(1)), op.Unsqueeze(input_c, _at(1))
    x_ru, x_c = gates.parts(inputs_ULG, axis=2)
    step = _Step(gates, op.Unsqueeze(hidden_c, _at(1)))
    x_ru, x_c = step.per_user(x_ru), step.per_user(x_c)
    a = step.per_candidate(attention_UCL)
    m = step.per_candidate(op.Unsqueeze(mask_UL, _at(1)))
    x_ru = step.add("Add", step.add("Mul", x_ru, a), bias_ru)
    u, c = step.gates_of(x_ru, step.add("Add", step.add("Mul", x_c, a), bias_c))
    return step.move(step.add("Mul", m, u), c)


def _at(axis: int) -> _Value:
    return op.Constant(value_ints=[axis])


class _Gates:
    """The recurrent weights, and where r and u end and c begins."""

    def __init__(self, weight_GH: _Value) -> None:
        self.weight_GH, self.hidden = weight_GH, int(weight_GH.shape[1])

    def parts(self, rows: _Value, *, axis: int) -> tuple[Any, Any]:
        """(r, u) and c along `axis`."""
        start, middle, end = (_at(i * self.hidden) for i in (0, 2, 3))
        return op.Slice(rows, start, middle, _at(axis)), op.Slice(rows, middle, end, _at(axis))


class _Step:
    """One step of a loop per candidate, written node by node, and the Scan around it.

    Weight, biases and split sizes are read from the outer graph.
    """

    def __init__(self, gates: _Gates, bias_c_H1: _Value) -> None:
        self.gates, self.bias_c_H1 = gates, bias_c_H1
        self.split_ru_c = op.Constant(value_ints=[2 * gates.hidden, gates.hidden])
        self.h = ir.Value(name="loop_h", type=_FLOAT, shape=ir.Shape(["U", gates.hidden, "C"]))
        self.nodes: list[ir.Node] = []
        self.series: list[tuple[ir.Value, Any]] = []  # what the step sees of each, and the whole of it, L first

    def per_user(self, x_ULG: _Value) -> ir.Value:
        """A series [U, L, G] as the step sees it: [U, G, 1]."""
        return self._series(op.Unsqueeze(op.Transpose(x_ULG, perm=[1, 0, 2]), _at(-1)))

    def per_candidate(self, x_UCL: _Value) -> ir.Value:
        """A series [U, C, L] as the step sees it: [U, 1, C]."""
        return self._series(op.Unsqueeze(op.Transpose(x_UCL, perm=[2, 0, 1]), _at(2)))

    def _series(self, whole: _Value) -> ir.Value:
        value = ir.Value(name=f"loop_x{len(self.series)}", type=_FLOAT)
        self.series.append((value, whole))
        return value

    def add(self, kind: str, *inputs: ir.Value, outputs: int = 1, **attributes: int) -> ir.Value:
        """The first output of a new node; `self.nodes[-1]` has the others."""
        made = ir.convenience.convert_attributes(attributes)
        self.nodes.append(ir.Node("", kind, inputs, attributes=made, num_outputs=outputs))
        for i, value in enumerate(self.nodes[-1].outputs):
            value.name, value.type = f"loop_{len(self.nodes)}_{i}", _FLOAT
        return self.nodes[-1].outputs[0]

    def gates_of(self, x_ru: ir.Value, x_c: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Update gate u and candidate state c."""
        self.add("Split", self.add("MatMul", self.gates.weight_GH, self.h), self.split_ru_c, outputs=2, axis=-2)
        g_ru, g_c = self.nodes[-1].outputs
        self.add("Split", self.add("Sigmoid", self.add("Add", g_ru, x_ru)), outputs=2, axis=-2, num_outputs=2)
        r, u = self.nodes[-1].outputs
        return u, self.add("Tanh", self.add("Add", x_c, self.add("Mul", r, self.add("Add", g_c, self.bias_c_H1))))

    def move(self, share: ir.Value, c: ir.Value) -> Self:
        """The last nodes of the step: h <- h + share (c - h)."""
        self.moved = self.add("Mul", share, self.add("Sub", c, self.h))
        self.next_h = self.add("Add", self.h, self.moved)
        self.next_h.shape = self.h.shape
        return self

    def last_state(self, attention_UCL: _Value) -> _Value:
        """All steps from zero: the final state [U, C, H]."""
        return op.Transpose(self._scan(attention_UCL, [self.next_h]), perm=[0, 2, 1])

    def updates(self, attention_UCL: _Value) -> _Value:
        """All steps from zero: how far each of them moved the state, [U, C, L]."""
        state = self._scan(attention_UCL, [self.next_h, self.add("ReduceL2", self.moved, _at(1))])
        scan = state.producer()
        scan.resize_outputs(2)  # the exporter gives a Scan one output, whatever its body has
        lengths_LU1C = scan.outputs[1]
        lengths_LU1C.type = _FLOAT
        return op.Transpose(op.Squeeze(lengths_LU1C, _at(2)), perm=[1, 2, 0])

    def _scan(self, attention_UCL: _Value, outputs: list[ir.Value]) -> _Value:
        """The Scan's first output, the last state [U, H, C]."""
        values, series = zip(*self.series, strict=True)
        body = ir.Graph([self.h, *values], outputs, nodes=self.nodes, name="loop_step")
        users = op.Shape(attention_UCL, start=0, end=1)
        candidates = op.Shape(attention_UCL, start=1, end=2)
        empty = op.ConstantOfShape(op.Concat(users, _at(self.gates.hidden), candidates, axis=0))
        return op.Scan(empty, *series, body=body, num_scan_inputs=len(series))
