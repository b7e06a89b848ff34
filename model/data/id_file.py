"""The `*_voc.pkl` files of the public DIEN code: a pickled dict from text to integer, read without trusting it.

A pickle is a program. Only the instructions that build a dict of text and integers are let through; the first other
one is an error that names what it would have built or called, before anything is run.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import NoReturn

import orjson

from model.bundle.errors import ConfigError

_ALLOWED = "a pickled dict of str and int, or the same as JSON"
_BUILT = {
    *("PROTO", "FRAME", "MARK", "STOP", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
}


def read_ids(path: Path) -> dict[str, int]:
    """Text -> integer, from a pickle or from JSON, as the public code reads either.

    Raises ConfigError naming the file and what stands in it that is no dict, str or int.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(file=str(path), key="file", found=error.strerror, allowed="a readable file") from error
    found = loaded_ids(raw, file=str(path))
    if not isinstance(found, dict):
        _refuse(str(path), f"{type(found).__name__} instead of a dict")
    for key, value in found.items():
        if type(key) is not str or type(value) is not int or not 0 <= value < 2**53:
            _refuse(str(path), f"{key!r}: {value!r}"[:200])
    return found


def loaded_ids(raw: bytes, *, file: str) -> object:
    """What the bytes hold. Raises ConfigError as `read_ids`, whatever the bytes are."""
    try:
        if raw[:1] == b"{":
            return orjson.loads(raw)
        _check(raw, file)
        return _Ids(io.BytesIO(raw), encoding="utf-8").load()
    except ConfigError:
        raise
    except Exception as error:  # the documentation of pickle promises no list of what it raises
        raise ConfigError(file=file, key="pickle", found=str(error)[:200], allowed=_ALLOWED) from error


class _Ids(pickle.Unpickler):
    """The second lock, should an instruction ever get past the first."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name}")


def _check(raw: bytes, file: str) -> None:
    texts: list[object] = []  # the last two: STACK_GLOBAL takes module and name from there
    for opcode, arg, _ in pickletools.genops(raw):
        if opcode.name in ("GLOBAL", "INST"):
            _refuse(file, f"the class {str(arg).replace(' ', '.')}")
        if opcode.name == "STACK_GLOBAL":
            _refuse(file, "the class " + ".".join(map(str, texts)))
        if opcode.name not in _BUILT:
            _refuse(file, f"the instruction {opcode.name}")
        # The unpickler would make room for as many memos as the largest number says.
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(arg or 0) <= len(raw):
            _refuse(file, f"memo {arg}")
        if isinstance(arg, str):
            texts = [*texts[-1:], arg]


def _refuse(file: str, found: str) -> NoReturn:
    raise ConfigError(file=file, key="pickle", found=found, allowed=_ALLOWED)
