"""A bundle takes the memory that its files are large, whatever they say of themselves."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.bundle.arrays import parse_npy, parse_npz
from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle, to_npy, to_npz
from model.bundle.manifest import MANIFEST, manifest_from_bytes


def test_a_manifest_has_a_largest_size(bundle_path: Path, tmp_path: Path):
    """It is looked at before a byte of it is read."""
    shutil.copytree(bundle_path, tmp_path / "v1")
    with (tmp_path / "v1" / MANIFEST).open("ab") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(BundleError, match=r"^manifest.json: has 16777217 bytes, allowed: 16777216"):
        read_bundle(tmp_path / "v1")


@pytest.mark.parametrize("number", [b"Infinity", b"NaN", b"1e999"])
def test_a_manifest_holds_finite_numbers(bundle_path: Path, number: bytes):
    """Python reads others too, and cannot write them as JSON again."""
    raw = (bundle_path / MANIFEST).read_bytes()
    spoiled = raw.replace(b'"candidate_tile": 4', b'"candidate_tile": ' + number)
    assert spoiled != raw
    with pytest.raises(BundleError, match=r"^manifest.json: not JSON"):
        manifest_from_bytes(spoiled)


def test_nothing_is_unpacked():
    """A million zeros in a thousand bytes are refused, unread."""
    out = io.BytesIO()
    np.savez_compressed(out, zeros=np.zeros(10**6))
    with pytest.raises(ValueError, match="a member is compressed"):
        parse_npz(out.getvalue())


def test_members_do_not_share_bytes():
    """One that is listed a hundred times would take a hundred times its room."""
    raw = to_npz({"a": np.arange(100)})
    entry, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    many = raw[:entry] + raw[entry:end] * 100 + raw[end:]
    tail = many.rindex(b"PK\x05\x06")
    counted = (100).to_bytes(2, "little") * 2 + (100 * (end - entry)).to_bytes(4, "little")
    with pytest.raises(ValueError, match="members are longer"):
        parse_npz(many[: tail + 8] + counted + many[tail + 16 :])


@pytest.mark.parametrize("shape", [(10**12,), (0, 10**30), (-1, -3), (2**62, 4)])
def test_an_array_is_as_long_as_its_bytes(shape):
    """A header that promises more gets no memory."""
    raw = to_npy(np.zeros(3))
    boast = raw[:10] + raw[10:128].replace(b"(3,), }", f"{shape}, }}".encode()).ljust(118)[:118] + raw[128:]
    with pytest.raises(ValueError, match=r".+"):
        parse_npy(boast)


def test_arrays_come_back_as_they_were():
    """By row or by column, of any number of dimensions."""
    arrays = {"rows": np.arange(6).reshape(2, 3), "columns": np.arange(6.0).reshape(2, 3).T, "none": np.empty((0, 2))}
    found = parse_npz(to_npz(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(parse_npy(to_npy(array)), array)
