"""The pickles of the public DIEN code are read without running them."""

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle.errors import ConfigError
from model.data.id_file import loaded_ids, read_ids

IDS = {"default_mid": 0, "B000": 1, "Misérables": 70_000}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.sets(st.integers()),
    max_leaves=6,
)


class Calls:
    """What a hostile pickle does: it names a function to call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder / "ran"),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_dict_of_text_and_integers_is_read(protocol: int, tmp_path: Path) -> None:
    """In every protocol, as Python 2 wrote it, and as JSON."""
    path = tmp_path / "mid_voc.pkl"
    path.write_bytes(pickle.dumps(IDS, protocol))
    assert read_ids(path) == IDS
    path.write_bytes(b"(dp0\nS'default_mid'\np1\nI0\nsS'B000'\np2\nI1\ns.")
    assert read_ids(path) == {"default_mid": 0, "B000": 1}
    path.write_text('{"default_mid": 0}')
    assert read_ids(path) == {"default_mid": 0}


@pytest.mark.parametrize("protocol", range(6))
def test_a_class_is_refused_by_its_name_and_not_called(protocol: int, tmp_path: Path) -> None:
    """Also inside the dict, as key or value, and harmless ones too: nothing but dict, str and int is built."""
    path = tmp_path / "uid_voc.pkl"
    for hostile in (Calls(tmp_path), {"a": Calls(tmp_path)}, [Calls(tmp_path)]):
        path.write_bytes(pickle.dumps(hostile, protocol))
        with pytest.raises(
            ConfigError, match=rf"uid_voc\.pkl: pickle: found 'the (class {os.mkdir.__module__}\.mkdir|inst)"
        ):
            read_ids(path)
    path.write_bytes(pickle.dumps(OrderedDict(IDS), protocol))
    with pytest.raises(ConfigError, match=r"the class collections\.OrderedDict"):
        read_ids(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"r\xff\xff\xff\x7f.",
        b"}r\xff\xff\xff\x7f.",
        b"}p99999999999\n.",
        b"\x8a\xff" + b"\x01" * 255 + b".",
        b"\x8e" + struct.pack("<Q", 2**62) + b".",
        b"\x96" + struct.pack("<Q", 2**40) + b".",
        b"I" + b"9" * 100_000 + b"\n.",
        b"(" * 100_000 + b".",
        b"Pid\n.",
        b"\x82\x01.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"}X\x01\x00\x00\x00aNs.",
        b"{" * 100_000,
        b"",
        b".",
    ],
)
def test_what_would_exhaust_or_call_is_an_error(raw: bytes, tmp_path: Path) -> None:
    """Huge memo numbers, sizes and integers, deep stacks, persistent ids, extensions, calls, None, nothing."""
    path = tmp_path / "cat_voc.pkl"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"cat_voc\.pkl: pickle: found"):
        read_ids(path)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60) | st.builds(pickle.dumps, PLAIN, st.integers(0, 5)))
def test_any_bytes_are_a_dict_of_ids_or_an_error(raw: bytes) -> None:
    """Whatever the bytes are, and whatever was pickled: what comes back is made of dicts, texts and integers."""
    try:
        found = loaded_ids(raw, file="any")
    except ConfigError:
        return
    assert isinstance(found, dict | str | int) or raw.startswith(b"{")


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(0, 5))
def test_a_damaged_pickle_is_a_dict_of_ids_or_an_error(data: st.DataObject, protocol: int) -> None:
    """Bytes of a good file changed, taken out or put in."""
    raw = bytearray(pickle.dumps(IDS, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        loaded_ids(bytes(raw), file="any")
    except ConfigError as error:
        assert str(error).startswith("any: pickle: found ")  # noqa: PT017  # it need not be raised


def test_values_and_a_missing_file_are_named(tmp_path: Path) -> None:
    """Text, a truth value or a negative number in the place of an id, a list, no file."""
    path = tmp_path / "mid_voc.pkl"
    for value in ("x", True, -1, 2**53, {}):
        path.write_bytes(pickle.dumps({"a": value}, 2))
        with pytest.raises(ConfigError, match=r"mid_voc\.pkl: pickle: found .*allowed: a pickled dict of str and int"):
            read_ids(path)
    path.write_bytes(pickle.dumps("text", 2))
    with pytest.raises(ConfigError, match="'str instead of a dict'"):
        read_ids(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_ids(tmp_path / "absent.pkl")
