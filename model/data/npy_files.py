"""Plain `.npy` files that grow by appending, and several of them read as one array."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER = 128  # bytes, for any array of up to two axes: numpy pads the header to a multiple of 64


class NpyAppender:
    """A folder of `.npy` files, one per array name, that all grow together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._length: dict[str, int] = {}
        self._like: dict[str, NDArray[np.generic]] = {}  # an empty array of each one's type and width
        self._digest = hashlib.sha256()
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Add entries to the end of each array; types and further axes are those of the first call."""
        for name, array in arrays.items():
            mode = "ab" if name in self._length else "wb"
            content = np.ascontiguousarray(array)
            self._like.setdefault(name, array[:0])
            with (self._folder / f"{name}.npy").open(mode) as file:
                if mode == "wb":
                    file.write(bytes(_HEADER))
                file.write(content.data if content.size else b"")
            self._digest.update(content.data if content.size else b"")
            self._length[name] = self._length.get(name, 0) + len(array)

    def close(self) -> str:
        """Write the headers; returns a checksum of all that was appended."""
        for name, like in self._like.items():
            header = io.BytesIO()
            described = np.lib.format.header_data_from_array_1_0(like)
            np.lib.format.write_array_header_1_0(header, {**described, "shape": (self._length[name], *like.shape[1:])})
            with (self._folder / f"{name}.npy").open("r+b") as file:
                assert len(header.getvalue()) == _HEADER
                file.write(header.getvalue())
        return self._digest.hexdigest()[:16]


def read_into(files: Sequence[Path], spans: Sequence[slice] | None = None) -> NDArray[np.generic]:
    """The arrays of several files one after another, or of each file the entries of a span, read without a copy."""
    heads = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    parts = [head[span] for head, span in zip(heads, spans or [slice(None)] * len(heads), strict=True)]
    out = np.empty((sum(map(len, parts)), *heads[0].shape[1:]), dtype=heads[0].dtype)
    row_bytes = out[:1].nbytes if len(out) else 0
    at = 0
    for i, (file, part) in enumerate(zip(files, parts, strict=True)):
        with file.open("rb") as stream:  # unbuffered it would stop at 2 GiB
            stream.seek(_HEADER + row_bytes * (spans[i].start if spans else 0))
            there = out[at : at + len(part)]
            if there.size:
                stream.readinto(there.view(np.uint8).reshape(-1).data)
        at += len(part)
    return out


def read_kept(files: Sequence[Path], spans: Sequence[slice], kept: Sequence[NDArray[np.bool_]]) -> NDArray[np.generic]:
    """`read_into` without the entries that are not kept; of one file at a time all of its span are in memory."""
    like = np.load(files[0], mmap_mode="r", allow_pickle=False)
    out = np.empty((int(sum(mask.sum() for mask in kept)), *like.shape[1:]), dtype=like.dtype)
    at = 0
    for file, span, mask in zip(files, spans, kept, strict=True):
        part = read_into([file], [span])[mask]
        out[at : at + len(part)] = part
        at += len(part)
    return out
