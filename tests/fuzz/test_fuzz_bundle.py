"""Bundles that somebody spoiled or made to hurt, read as the service reads them: taken, or refused with a BundleError.

Checksums are mostly made right again, so that the parsers behind them are reached. The graphs themselves are left
alone: who can write them decides what the service computes, and signatures are what keeps others from it
(docs/security.md).
"""

import hashlib
import io
import json
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from service.loader import load
from tests.fuzz.budget import long_run, seconds

MOST_MIB = 256  # of address space, above what the process has: a case that takes more is a MemoryError
MOST_CPU_S = 5.0
BIG = 2**40
CASES = int(seconds(5) * 30)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-BIG, BIG) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
DTYPES = st.sampled_from(["<i8", ">i8", "<f4", "<f8", "|b1", "|S3", "<U2", "<U2000", "<c16", "<M8[s]", "|V5", "<u8"])
SHAPES = (
    st.lists(st.sampled_from([0, 1, 2, 3, 7, 22]), max_size=4).map(tuple).filter(lambda shape: np.prod(shape) < 500)
)
BOASTS = st.lists(st.sampled_from([-1, 0, 1, 3, 2**31, 2**62, 10**30]), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Small ones of any kind and shape."""
    dtype, shape = np.dtype(draw(DTYPES)), draw(SHAPES)
    length = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=min(length, 64), max_size=min(length, 64)))
    return (
        np.frombuffer((raw * (length // max(len(raw), 1) + 1))[:length], dtype).reshape(shape)
        if length
        else (np.zeros(shape, dtype))
    )


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


@st.composite
def npys(draw: st.DrawFn) -> bytes:
    """A .npy file: an honest one, or one whose header boasts."""
    if draw(st.booleans()):
        return npy(draw(arrays()))
    described = {"descr": draw(DTYPES | st.just("|O") | st.text(max_size=5)), "fortran_order": draw(st.booleans())}
    header = repr({**described, "shape": draw(BOASTS)}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + draw(st.binary(max_size=64))


@st.composite
def npzs(draw: st.DrawFn, names: tuple[str, ...]) -> bytes:
    """A .npz file with some of the names that are looked for, sometimes compressed."""
    found = draw(st.dictionaries(st.sampled_from(names), arrays(), max_size=len(names)))
    out = io.BytesIO()
    if draw(st.booleans()) and draw(st.booleans()):
        np.savez_compressed(out, bomb=np.zeros(draw(st.sampled_from([10, 10**6]))), **found)
    else:
        np.savez(out, **found)
    return out.getvalue()


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """Cut, doubled, or with some bytes replaced."""
    at = draw(st.integers(0, max(len(raw) - 1, 0)))
    piece = draw(st.binary(max_size=8))
    return draw(st.sampled_from([raw[:at], raw[:at] + piece + raw[at + len(piece) :], raw[:at] + piece + raw[at:]]))


@st.composite
def changed(draw: st.DrawFn, table: Any) -> Any:
    """A JSON value with one value in it replaced, dropped or added."""
    if isinstance(table, dict) and table and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(table)))
        match draw(st.integers(0, 9)):
            case 0:
                return {name: value for name, value in table.items() if name != key}
            case 1:
                return {**table, draw(st.text(max_size=8)): draw(JSON)}
            case _:
                return {**table, key: draw(changed(table[key]))}
    if isinstance(table, list) and table and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(table) - 1))
        return [*table[:at], draw(changed(table[at])), *table[at + 1 :]]
    return draw(JSON)


def canonical(table: dict[str, Any]) -> bytes:
    """As a manifest is written, but NaN and infinity too, which are no JSON."""
    return (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()


def sealed(table: dict[str, Any]) -> bytes:
    """A manifest with the right checksum of itself."""
    stated = {name: value for name, value in table.items() if name != "checksum"}
    return canonical({**stated, "checksum": hashlib.sha256(canonical(stated)).hexdigest()})


@st.composite
def spoiled(draw: st.DrawFn, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a bundle after somebody was at them."""
    files = dict(files)
    table = json.loads(files[MANIFEST])
    name = draw(st.sampled_from(sorted(each for each in files if not each.endswith(".onnx"))))
    if name == MANIFEST:
        table = draw(changed(table))
    else:
        members = tuple(np.load(io.BytesIO(files[name])).files) if name.endswith(".npz") else ()
        made = npzs((*members, "ids", "pctr", "x")) if members else npys()
        files[name] = draw(damaged(files[name]) | made | made)
        if draw(st.integers(0, 9)):
            table["files"][name] = hashlib.sha256(files[name]).hexdigest()
    files[MANIFEST] = sealed(table) if isinstance(table, dict) else json.dumps(table).encode()
    return files if draw(st.integers(0, 9)) else {**files, MANIFEST: draw(damaged(files[MANIFEST]))}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No more address space than a case may take."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_MIB * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def files(bundle_path: Path) -> dict[str, bytes]:
    """A bundle with every kind of feature, as bytes."""
    return {str(p.relative_to(bundle_path)): p.read_bytes() for p in bundle_path.rglob("*") if p.is_file()}


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=not long_run(),
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
@pytest.mark.usefixtures("little_memory")
def test_a_spoiled_bundle_is_taken_or_refused(data: st.DataObject, files: dict[str, bytes], tmp_path: Path):
    """No other error, no crash, no long computation, no memory beyond what the files are large."""
    folder = tmp_path / "v1"
    shutil.rmtree(folder, ignore_errors=True)
    for name, raw in data.draw(spoiled(files), label="files").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    began = time.process_time()
    with suppress(BundleError):
        load(folder, max_candidates=4)
    taken = time.process_time() - began

    target(taken)
    assert taken < MOST_CPU_S
