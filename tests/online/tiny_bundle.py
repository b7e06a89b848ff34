"""A small hand-made bundle with every kind of feature.

The two graphs are written node by node and their golden scores come from numpy, so that nothing here depends on
`model.nets` or on the exporter.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.bundle.catalogue import Catalogue
from model.bundle.dense import Scaling
from model.bundle.encode import Encoder, Tensors
from model.bundle.folder import GOLDEN, PRIOR, encoder_files, to_npy, to_npz, write_bundle
from model.bundle.manifest import FORMAT_VERSION, Half, Manifest, TensorSpec
from model.bundle.records import make_behaviors
from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.bundle.vocabulary import Vocabulary

SCHEMA = Schema(
    user=(Feature(name="user_id"), Feature(name="city", dtype="str"), Feature(name="age", kind="dense")),
    item=(Feature(name="item_id"), Feature(name="cate_id"), Feature(name="price", kind="dense")),
    context=(Feature(name="hour"),),
    behavior=(Sequence(shares="item_id", column="hist_item"), Sequence(shares="cate_id", column="hist_cate")),
    keys=Keys(category="cate_id"),
    max_history=8,
)
ITEMS = np.arange(100, 120)
USERS = np.arange(1, 11)
WIDTH = 4
# Row 0 is padding and adds nothing, as in a net. One table serves every id here.
TABLE = np.vstack([np.zeros(WIDTH), np.random.default_rng(7).normal(size=(40, WIDTH))]).astype(np.float32)

USER_INPUTS = {
    "user_sparse": ("int64", ("U", 2)),
    "user_dense": ("float32", ("U", 1)),
    "context_sparse": ("int64", ("U", 1)),
    "history": ("int64", ("U", "L", 2)),
    "history_len": ("int64", ("U",)),
}
STATE = {"state_user": ("float32", ("U", WIDTH))}
ITEM_INPUTS = {"item_sparse": ("int64", ("U", "C", 2)), "item_dense": ("float32", ("U", "C", 1))}
OUTPUTS = {"logit": ("float32", ("U", "C")), "pctr": ("float32", ("U", "C"))}

Specs = dict[str, tuple[str, tuple[object, ...]]]


def tiny_encoder() -> Encoder:
    """Items 100 to 119 with category id // 10 and price id; users 1 to 10; cities oslo and rome; hours 0 to 23."""
    return Encoder(
        SCHEMA,
        {
            "user_id": Vocabulary(USERS),
            "city": Vocabulary(np.array(["oslo", "rome"])),
            "item_id": Vocabulary(ITEMS),
            "cate_id": Vocabulary(np.array([10, 11])),
            "hour": Vocabulary(np.arange(24)),
        },
        scalings={"age": Scaling(mean=40.0, std=10.0), "price": Scaling(mean=110.0, std=6.0)},
        catalogue=Catalogue(ids=ITEMS, columns={"cate_id": ITEMS // 10, "price": ITEMS.astype(np.float64)}),
    )


def write_tiny_bundle(root: Path, encoder: Encoder, *, version: str = "v1", **facts: object) -> Path:
    """Write the bundle below `root`; `facts` are fields of the manifest that a bundle may go without."""
    golden = _golden(encoder)
    files = {
        "user.onnx": _user_graph(),
        "candidate.onnx": _candidate_graph(),
        GOLDEN: to_npz({**golden, "pctr": reference(golden)}),
        PRIOR: to_npy(np.full(len(ITEMS) + 2, 0.1, dtype=np.float32)),
        **encoder_files(encoder),
    }
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="tiny",
        version=version,
        net={"kind": "tiny"},
        schema=encoder.schema.to_table(),
        user_half=Half(file="user.onnx", inputs=_specs(USER_INPUTS), outputs=_specs(STATE)),
        candidate_half=Half(file="candidate.onnx", inputs=_specs(STATE | ITEM_INPUTS), outputs=_specs(OUTPUTS)),
        candidate_tile=4,
        **facts,
    )
    return write_bundle(root, manifest, files)


def reference(tensors: Tensors) -> np.ndarray:
    """pCTR [U, C] of the tiny net, in numpy."""
    history = TABLE[tensors["history"]].sum((1, 2)) / (1 + tensors["history_len"][:, None])
    ids = TABLE[tensors["user_sparse"]].sum(1) + TABLE[tensors["context_sparse"]].sum(1)
    state = history + ids + tensors["user_dense"]
    logit = (TABLE[tensors["item_sparse"]].sum(2) * state[:, None]).sum(-1) + tensors["item_dense"].sum(-1)
    return (1 / (1 + np.exp(-logit))).astype(np.float32)


def _golden(encoder: Encoder) -> Tensors:
    request = encoder.encode_request({"user_id": [1, 2, 999], "age": [30, 40, 50]}, {"hour": [1, 2, 3]}, rows=3)
    history = encoder.encode_history([make_behaviors(ITEMS[:n]) for n in (0, 1, 8)])
    items = encoder.encode_items({"item_id": np.arange(98, 113)})
    repeated = {name: np.broadcast_to(tensor, (3, *tensor.shape)).copy() for name, tensor in items.items()}
    return {**request, **history, **repeated}


def _specs(specs: Specs) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in specs.items())


def _user_graph() -> bytes:
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "history"], ["h"]),
        node("ReduceSum", ["h", "axes12"], ["h_sum"], keepdims=0),
        node("Cast", ["history_len"], ["len"], to=TensorProto.FLOAT),
        node("Add", ["len", "one"], ["len1"]),
        node("Unsqueeze", ["len1", "axis1"], ["divisor"]),
        node("Div", ["h_sum", "divisor"], ["h_mean"]),
        node("Gather", ["table", "user_sparse"], ["u"]),
        node("ReduceSum", ["u", "axis1"], ["u_sum"], keepdims=0),
        node("Gather", ["table", "context_sparse"], ["c"]),
        node("ReduceSum", ["c", "axis1"], ["c_sum"], keepdims=0),
        node("Sum", ["h_mean", "u_sum", "c_sum", "user_dense"], ["state_user"]),
    ]
    return _graph(nodes, USER_INPUTS, STATE)


def _candidate_graph() -> bytes:
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "item_sparse"], ["i"]),
        node("ReduceSum", ["i", "axis2"], ["i_sum"], keepdims=0),
        node("Unsqueeze", ["state_user", "axis1"], ["state"]),
        node("Mul", ["i_sum", "state"], ["product"]),
        node("ReduceSum", ["product", "axis2"], ["dot"], keepdims=0),
        node("ReduceSum", ["item_dense", "axis2"], ["dense"], keepdims=0),
        node("Add", ["dot", "dense"], ["logit"]),
        node("Sigmoid", ["logit"], ["pctr"]),
    ]
    return _graph(nodes, STATE | ITEM_INPUTS, OUTPUTS)


def _graph(nodes: list[onnx.NodeProto], inputs: Specs, outputs: Specs) -> bytes:
    constants = {
        "table": TABLE,
        "one": np.array(1, dtype=np.float32),
        "axis1": np.array([1]),
        "axis2": np.array([2]),
        "axes12": np.array([1, 2]),
    }
    used = {name for node in nodes for name in node.input}
    initializers = [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used]
    graph = helper.make_graph(nodes, "half", _infos(inputs), _infos(outputs), initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def _infos(specs: Specs) -> list[onnx.ValueInfoProto]:
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    return [helper.make_tensor_value_info(name, types[dtype], shape) for name, (dtype, shape) in specs.items()]
