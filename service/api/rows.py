"""Candidates' rows in and out by the compiled part, where it is built; what it does not read goes the usual way.

    body -> place and columns of candidates, if every value is an id; else None, and orjson reads the whole body
    ids, scores, ranks, statuses -> JSON

It refuses whatever it does not know, so `parse.py` and `render.py` decide every error and have the same results
without it.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from model.bundle.vocabulary import Ids
from service.scoring.scored import STATUSES, Status

FOLDER = Path(__file__).parent / "native"
_MAX_COLUMNS = 32
_VALUE = 5  # the fewest bytes of a value with its key: "":0,
_LINE = 160  # the most bytes of one candidate's answer
_CODES = {status: code for code, status in enumerate(STATUSES)}
_NAMES = (c_char_p * len(STATUSES))(*(status.encode() for status in STATUSES))


@dataclass(frozen=True, slots=True)
class IdRows:
    """Rows of which every value is an id: at least one, as int64 columns [N] in the order of the rows' keys."""

    columns: dict[str, Ids]

    def to_rows(self) -> list[dict[str, int]]:
        """What orjson would have read."""
        values = zip(*(column.tolist() for column in self.columns.values()), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in values]


class _Slice(Structure):
    _fields_: ClassVar = [("begin", c_int64), ("size", c_int64)]


class _Rows(Structure):
    _fields_: ClassVar = [
        ("candidates", _Slice),
        ("rows", c_int64),
        ("columns", c_int64),
        ("names", _Slice * _MAX_COLUMNS),
        ("capacity", c_int64),
        ("values", c_void_p),
    ]


class _Scored(Structure):
    _fields_: ClassVar = [
        ("rows", c_int64),
        *((name, c_void_p) for name in ("item_id", "pctr", "rank")),
        ("status", c_char_p),
        ("statuses", POINTER(c_char_p)),
    ]


class CompiledRows:
    """The compiled part, through ctypes. Its calls keep the GIL: they are shorter than getting it back would take."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        library.ctr_read_rows.restype = c_int
        library.ctr_read_rows.argtypes = [c_char_p, c_int64, POINTER(_Rows)]
        library.ctr_write_rows.restype = c_int64
        library.ctr_write_rows.argtypes = [POINTER(_Scored), c_void_p, c_int64]
        self._library = library

    def read(self, body: bytes) -> tuple[bytes, IdRows] | None:
        """The body with [] for its candidates, and the candidates; None unless every value of them is an id.

        They are the body's only if what is left is valid JSON; else nothing is known.
        """
        values = np.empty(len(body) // _VALUE + 1, dtype=np.int64)
        found = _Rows(capacity=len(values), values=values.ctypes.data)
        if not self._library.ctr_read_rows(body, len(body), ctypes.byref(found)):
            return None
        names = [_cut(body, name).decode("ascii") for name in found.names[: found.columns]]
        columns = values[: found.rows * found.columns].reshape(found.rows, found.columns).T.copy()
        begin, size = found.candidates.begin, found.candidates.size
        rest = b"%b[]%b" % (body[:begin], body[begin + size :])
        return rest, IdRows(dict(zip(names, columns, strict=True)))

    def write(
        self, item_ids: Ids, pctr: NDArray[np.float32], *, rank: NDArray[np.int64], status: Sequence[Status]
    ) -> bytes | None:
        """The answer's list of candidates. None if there are none, one has no finite score, or lengths differ."""
        arrays = [np.ascontiguousarray(a, dtype=t) for a, t in ((item_ids, "i8"), (pctr, "f4"), (rank, "i8"))]
        rows = len(status)
        if any(array.shape != (rows,) for array in arrays):
            return None
        usual = status.count("ok") == rows  # saves half of the time
        codes = bytes(rows) if usual else bytes(map(_CODES.__getitem__, status))
        scored = _Scored(rows, *(array.ctypes.data for array in arrays), codes, _NAMES)
        out = np.empty(rows * _LINE + 1, dtype=np.uint8)
        size = self._library.ctr_write_rows(ctypes.byref(scored), out.ctypes.data, len(out))
        return out[:size].tobytes() if size else None


def open_compiled_rows(folder: Path = FOLDER) -> CompiledRows | None:
    """The compiled part, or None where it is not built or cannot be loaded."""
    built = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_rows{suffix}").is_file()]
    try:
        return CompiledRows(ctypes.PyDLL(str(built[0]))) if built else None
    except OSError:
        return None


def _cut(body: bytes, place: _Slice) -> bytes:
    begin: int = place.begin
    size: int = place.size
    return body[begin : begin + size]
