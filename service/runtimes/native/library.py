"""The compiled kernel through ctypes, which releases the GIL while it runs. The structs are those of kernel.h."""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int64, c_void_p
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import ClassVar

from service.runtimes.base import RuntimeFailure

BFLOAT16 = "amx-bfloat16"  # the path that rounds: not among those that are taken without asking
PORTABLE = "portable"  # the path that needs no instruction set of its own
FOLDER = Path(__file__).parent
_FAILURES = {1: "no memory", 2: "an item index is outside of its table", 3: "this processor has no such path"}


class Layer(Structure):
    """One layer; pointers go to packed float32 arrays."""

    _fields_: ClassVar = [
        *((name, c_int64) for name in ("inputs", "outputs", "blocks", "activation")),
        *((name, c_void_p) for name in ("weight", "bias", "tiles", "scale", "shift", "alpha", "beta")),
    ]


class Field(Structure):
    """One sparse item feature."""

    _fields_: ClassVar = [("table", c_void_p), *((name, c_int64) for name in ("rows", "dim", "column"))]


class Net(Structure):
    """The whole candidate half."""

    _fields_: ClassVar = [
        *((name, c_int64) for name in ("width", "hidden", "softmax", "recurrent", "columns", "dense", "fields")),
        ("field", POINTER(Field)),
        ("query", Layer),
        ("product", Layer),
        ("key_weight", c_void_p),
        ("attention_layers", c_int64),
        ("attention", POINTER(Layer)),
        ("score_inputs", c_int64),
        ("score_weight", c_void_p),
        ("score_bias", c_float),
        ("gates", Layer),
        ("head_layers", c_int64),
        ("head_width", c_int64),
        ("head", POINTER(Layer)),
        ("logit_inputs", c_int64),
        ("logit_weight", c_void_p),
        ("logit_bias", c_float),
    ]


class Batch(Structure):
    """One call's inputs and outputs."""

    _fields_: ClassVar = [
        *((name, c_int64) for name in ("users", "candidates", "length")),
        *((name, c_void_p) for name in ("share", "pooled", "keys", "mask", "inputs")),
        *((name, c_void_p) for name in ("item_sparse", "item_dense", "logit", "pctr")),
    ]


class NativeUnavailable(Exception):
    """The kernel is not built here, or it does not know a path for this processor."""


class Kernel:
    """The compiled library.

    `paths` are the instruction sets that compute in float32 on this processor, fastest first; `rounding` those that do
    not, which are empty or BFLOAT16.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load it. Raises NativeUnavailable if it was not built."""
        built = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_kernel{suffix}").is_file()]
        if not built:
            raise NativeUnavailable("the native kernel is not built (it needs a C++ compiler when installing)")
        try:
            library = ctypes.CDLL(str(built[0]))
        except OSError as error:
            raise NativeUnavailable(f"the native kernel cannot be loaded: {error}") from error
        library.ctr_path.restype, library.ctr_path.argtypes = c_char_p, [c_int64]
        library.ctr_score.restype = c_int
        library.ctr_score.argtypes = [c_char_p, POINTER(Net), POINTER(Batch)]
        self.file = built[0]
        self._library = library
        here = self._paths()
        self.paths = [name for name in here if name != BFLOAT16]
        self.rounding = [name for name in here if name == BFLOAT16]

    def score(self, path: str, net: Net, batch: Batch) -> None:
        """Fill in `batch.logit` and `batch.pctr`. Raises RuntimeFailure; an index is checked before it is used."""
        failed = self._library.ctr_score(path.encode(), ctypes.byref(net), ctypes.byref(batch))
        if failed:
            raise RuntimeFailure(_FAILURES.get(failed, f"the native kernel failed with {failed}"))

    def _paths(self) -> list[str]:
        names, index = [], 0
        while (name := self._library.ctr_path(index)) is not None:
            names.append(name.decode())
            index += 1
        return [name for name in names if name]
