"""GRU and AUGRU for the exporter: loops that stay loops, whatever the length of the history.

GRU is ONNX's own operator. AUGRU is a Scan; its step works on [U, H, C], gates as rows, so that splitting them is a
plain copy and every product is one GEMM: 1.5 times faster in ONNX Runtime than [U, C, H] (docs/log.md, 2026-11-22).
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset20
from torch import Tensor

from model.nets.augru import augru_recurrence
from model.nets.gru import gru_recurrence

op: Any = opset20  # its stubs know tensors only, not the values that the exporter passes in

_FLOAT = ir.TensorType(ir.DataType.FLOAT)


@torch.library.custom_op("ctr::augru", mutates_args=())
def augru_op(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """The recurrence as one operator that tracing cannot look into. Put it into `Augru.recurrence` before export."""
    return augru_recurrence(inputs_ULG, attention_UCL, weight_GH, bias_G)


@augru_op.register_fake
def _augru_shape(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    return inputs_ULG.new_empty(*attention_UCL.shape[:2], weight_GH.shape[1])


@torch.library.custom_op("ctr::gru", mutates_args=())
def gru_op(x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor) -> Tensor:
    """The interest extractor as one operator. Put it into `Gru.recurrence` before export."""
    return gru_recurrence(x_ULE, weight_GE, weight_GH, input_bias_G, hidden_bias_G)


@gru_op.register_fake
def _gru_shape(
    x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor
) -> Tensor:
    return x_ULE.new_empty(*x_ULE.shape[:2], weight_GH.shape[1])


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export(custom_translation_table=...)` needs to know. `Any`: the exporter's own types."""
    return {torch.ops.ctr.augru.default: _augru, torch.ops.ctr.gru.default: _gru}


def _gru(x_ULE: Any, weight_GE: Any, weight_GH: Any, input_bias_G: Any, hidden_bias_G: Any) -> Any:  # noqa: ANN401  # onnxscript values
    hidden = int(weight_GH.shape[1])
    one = op.Constant(value_ints=[0])
    first, middle, third, end = (op.Constant(value_ints=[i * hidden]) for i in range(4))

    def reordered(gates: Any) -> Any:  # noqa: ANN401  # onnxscript values
        """Our (r, u, c) as ONNX's (z, r, c), with the axis of directions: z = 1 - u = sigmoid(-x)."""
        r, u, c = op.Slice(gates, first, middle), op.Slice(gates, middle, third), op.Slice(gates, third, end)
        return op.Unsqueeze(op.Concat(op.Neg(u), r, c, axis=0), one)

    bias = op.Concat(reordered(input_bias_G), reordered(hidden_bias_G), axis=1)
    x_LUE = op.Transpose(x_ULE, perm=[1, 0, 2])
    states, _ = op.GRU(
        x_LUE, reordered(weight_GE), reordered(weight_GH), bias, hidden_size=hidden, linear_before_reset=1
    )
    return op.Transpose(op.Squeeze(states, op.Constant(value_ints=[1])), perm=[1, 0, 2])


def _augru(inputs_ULG: Any, attention_UCL: Any, weight_GH: Any, bias_G: Any) -> Any:  # noqa: ANN401  # onnxscript values
    hidden = int(weight_GH.shape[1])
    ru_c = op.Constant(value_ints=[2 * hidden, hidden])
    start, middle, end = (op.Constant(value_ints=[at]) for at in (0, 2 * hidden, 3 * hidden))
    bias_ru, bias_c = op.Slice(bias_G, start, middle), op.Slice(bias_G, middle, end)
    gates = op.Constant(value_ints=[2])
    x_ru, x_c = op.Slice(inputs_ULG, start, middle, gates), op.Slice(inputs_ULG, middle, end, gates)
    column = op.Constant(value_ints=[-1])
    # [U, L, G] -> [L, U, G, 1]; attention [U, C, L] -> [L, U, 1, C]
    steps = [op.Unsqueeze(op.Transpose(x, perm=[1, 0, 2]), column) for x in (op.Add(x_ru, bias_ru), x_c)]
    steps.append(op.Unsqueeze(op.Transpose(attention_UCL, perm=[2, 0, 1]), gates))
    users = op.Shape(attention_UCL, start=0, end=1)
    candidates = op.Shape(attention_UCL, start=1, end=2)
    empty = op.ConstantOfShape(op.Concat(users, op.Constant(value_ints=[hidden]), candidates, axis=0))
    body = _step(hidden, weight_GH, op.Unsqueeze(bias_c, column), ru_c)
    return op.Transpose(op.Scan(empty, *steps, body=body, num_scan_inputs=3), perm=[0, 2, 1])


def _step(hidden: int, weight_GH: Any, bias_c_H1: Any, ru_c: Any) -> ir.Graph:  # noqa: ANN401  # onnxscript values
    """One step; weight, bias and split sizes are read from the outer graph."""
    h = ir.Value(name="augru_h", type=_FLOAT, shape=ir.Shape(["U", hidden, "C"]))
    x_ru = ir.Value(name="augru_x_ru", type=_FLOAT, shape=ir.Shape(["U", 2 * hidden, 1]))
    x_c = ir.Value(name="augru_x_c", type=_FLOAT, shape=ir.Shape(["U", hidden, 1]))
    a = ir.Value(name="augru_a", type=_FLOAT, shape=ir.Shape(["U", 1, "C"]))
    nodes: list[ir.Node] = []

    def add(kind: str, *inputs: ir.Value, outputs: int = 1, **attributes: int) -> ir.Value:
        made = ir.convenience.convert_attributes(attributes)
        nodes.append(ir.Node("", kind, inputs, attributes=made, num_outputs=outputs))
        for i, value in enumerate(nodes[-1].outputs):
            value.name, value.type = f"augru_{len(nodes)}_{i}", _FLOAT
        return nodes[-1].outputs[0]

    add("Split", add("MatMul", weight_GH, h), ru_c, outputs=2, axis=-2)
    g_ru, g_c = nodes[-1].outputs
    add("Split", add("Sigmoid", add("Add", g_ru, x_ru)), outputs=2, axis=-2, num_outputs=2)
    r, u = nodes[-1].outputs
    c = add("Tanh", add("Add", x_c, add("Mul", r, add("Add", g_c, bias_c_H1))))
    next_h = add("Add", h, add("Mul", add("Mul", a, u), add("Sub", c, h)))
    next_h.shape = h.shape
    return ir.Graph([h, x_ru, x_c, a], [next_h], nodes=nodes, name="augru_step")
