"""Embedding tables as files of their own, beside the graphs that use them.

A table inside a graph is parsed and copied when the graph is loaded, once per half; as a `.npy` it is used in place, by
both halves and by the native kernel.
"""

import re
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from model.bundle.arrays import Content
from model.bundle.encode import Tensors
from model.bundle.folder import read_npy, to_npy
from model.bundle.manifest import Half

_TABLE = re.compile(r"(?:net\.)?([\w.]+)\.tables\.(\w+)\.weight")  # whose table, of which feature


def table_file(name: str) -> str:
    """Where a bundle keeps a table: the embeddings of a sparse feature, or of another part of the net for it."""
    return f"tables/{name}.npy"


def take_out_tables(raw: bytes) -> tuple[bytes, dict[str, str], dict[str, bytes]]:
    """The graph without its embedding tables, the file of each of them by constant, and the files."""
    proto = onnx.load_from_string(raw)
    tables, files = {}, {}
    for constant in proto.graph.initializer:
        if (found := _TABLE.fullmatch(constant.name)) is None:
            continue
        owner, feature = found.groups()
        path = tables[constant.name] = table_file(feature if owner == "embedding" else f"{owner}.{feature}")
        files[path] = to_npy(numpy_helper.to_array(constant))
        _move_out(constant, path, header=len(files[path]) - len(constant.raw_data))
    return proto.SerializeToString(deterministic=True), tables, files


def _move_out(constant: onnx.TensorProto, path: str, *, header: int) -> None:
    """As the ONNX standard has it, so that any runtime finds it when it opens the graph in its folder."""
    place = {"location": path, "offset": header, "length": len(constant.raw_data)}
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        constant.external_data.add(key=key, value=str(value))


def open_graph(raw: bytes, tables: Mapping[str, np.ndarray]) -> onnxruntime.InferenceSession:
    """A session on the CPU with one thread, given the constants that are not in the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(table) for table in tables.values()]
    options.add_external_initializers(list(tables), values)
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    session.tables = tables  # read where they are, so they must live as long
    return session


def open_half(files: Mapping[str, Content], half: Half) -> onnxruntime.InferenceSession:
    """The same of a half, with the tables that the manifest names."""
    return open_graph(bytes(files[half.file]), {name: read_npy(files, path) for name, path in half.tables.items()})


def run_half(half: Half, session: onnxruntime.InferenceSession, tensors: Tensors) -> Tensors:
    """Its outputs by name; tensors that it does not take are ignored."""
    names = [spec.name for spec in half.outputs]
    return dict(zip(names, session.run(names, {spec.name: tensors[spec.name] for spec in half.inputs}), strict=True))
