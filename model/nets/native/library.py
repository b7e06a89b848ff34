"""The compiled training kernels through ctypes, which releases the GIL meanwhile. The structs are those of kernel.h.

`library()` is None where they were not built, and nobody needs them.
"""

import ctypes
from ctypes import Structure, byref, c_char_p, c_float, c_int, c_int64, c_void_p
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

LANES, CHUNK, LAYERS = 16, 64, 4  # as in kernel.h
_FAILURES = {1: "no memory", 2: "this processor has no such path", 3: "an index is outside of its table"}
_JOBS = (  # in the order of kernel.h
    "gated_forward",
    "gated_backward",
    "attention_forward",
    "attention_backward",
    "lookup",
    "gather",
    "auxiliary_forward",
    "auxiliary_backward",
    "dice_forward",
    "dice_backward",
)


def _int64(*names: str) -> list[tuple[str, type]]:
    return [(name, c_int64) for name in names]


def _pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, c_void_p) for name in names]


class Gated(Structure):
    """GRU or AUGRU."""

    _fields_: ClassVar = [
        *_int64("rows", "length", "inputs", "hidden", "threads"),
        *_pointers("order", "count", "x", "attention"),
        *_pointers("input_weight", "hidden_weight", "input_bias", "hidden_bias"),
        *_pointers("states", "saved", "last", "d_states", "d_last", "d_x", "d_attention", "partial"),
    ]


class Layer(Structure):
    """One layer of the attention after the first."""

    _fields_: ClassVar = [*_int64("inputs", "outputs"), *_pointers("weight", "bias", "partial")]


class Attention(Structure):
    """Target attention and the sum of the history weighted by it."""

    _fields_: ClassVar = [
        *_int64("rows", "length", "width", "hidden", "softmax", "layers", "threads"),
        *_pointers("order", "count", "query", "keys", "query_weight", "key_weight", "product_weight", "bias"),
        ("layer", Layer * LAYERS),
        *_pointers("weights", "attended", "d_weights", "d_attended", "d_query", "d_keys", "partial"),
    ]


class Table(Structure):
    """One embedding table."""

    _fields_: ClassVar = [("weight", c_void_p), *_int64("rows", "dim")]


class Lookup(Structure):
    """The behaviors of a batch."""

    _fields_: ClassVar = [
        *_int64("rows", "length", "fields", "width", "threads"),
        *_pointers("count", "ids"),
        ("table", Table * LAYERS),
        *_pointers("out", "total"),
    ]


class Gather(Structure):
    """The sum of a table's gradients by row."""

    _fields_: ClassVar = [
        *_int64("rows", "length", "fields", "field", "dim", "width", "first"),
        *_pointers("count", "ids", "d_out", "d_total", "place", "touched", "sums", "found"),
    ]


class Auxiliary(Structure):
    """DIEN's auxiliary loss with inner products."""

    _fields_: ClassVar = [
        *_int64("rows", "length", "width", "threads"),
        *_pointers("count", "states", "real", "fake", "losses", "residual"),
        ("scale", c_float),
        *_pointers("d_states", "d_real", "d_fake"),
    ]


class Dice(Structure):
    """Dice over the rows of a batch."""

    _fields_: ClassVar = [
        *_int64("rows", "width", "threads"),
        ("eps", c_float),
        *_pointers("x", "alpha", "y", "mean", "variance", "scale", "d_y", "d_x", "d_alpha"),
    ]


class Library:
    """The compiled library. `paths` are the instruction sets that this processor has, fastest first."""

    def __init__(self, file: Path) -> None:
        """Load it. Raises OSError."""
        self._library = ctypes.CDLL(str(file))
        self._library.ctr_path.restype, self._library.ctr_path.argtypes = c_char_p, [c_int64]
        self._library.ctr_run.restype = c_int
        self._library.ctr_run.argtypes = [c_char_p, c_int64, c_void_p]
        self.paths = self._paths()
        self.path = self.paths[0]

    def run(self, name: str, job: Structure) -> None:
        """Do `job`. Raises RuntimeError."""
        failed = self._library.ctr_run(self.path.encode(), _JOBS.index(name), byref(job))
        if failed:
            raise RuntimeError(f"the native {name} failed: {_FAILURES.get(failed, failed)}")

    def _paths(self) -> list[str]:
        names, index = [], 0
        while (name := self._library.ctr_path(index)) is not None:
            names.append(name.decode())
            index += 1
        return [name for name in names if name]


@cache
def library() -> Library | None:
    """The library, loaded once; None where it was not built or cannot be loaded."""
    files = [Path(__file__).with_name(f"_train{suffix}") for suffix in EXTENSION_SUFFIXES]
    for file in files:
        try:
            return Library(file)
        except OSError:  # not built, or built for another system
            continue
    return None


def loaded() -> Library:
    """The library that is there; for code that runs only where `library()` is not None."""
    found = library()
    if found is None:
        raise RuntimeError("the native training kernels are not built")
    return found


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels can work on these: built, float32, on the CPU, and not while a graph is being exported."""
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return plain and torch.is_grad_enabled() and not torch.compiler.is_compiling() and library() is not None


def address(tensor: Tensor | None) -> int | None:
    """Of a contiguous tensor's first element."""
    return None if tensor is None else tensor.data_ptr()


def padded(n: int) -> int:
    """`n` rounded up to whole vectors."""
    return -(-n // LANES) * LANES


def chunks(rows: int) -> int:
    """How many pieces a batch is cut into. Each has gradients of the weights of its own, which are added in order."""
    return -(-rows // CHUNK)
