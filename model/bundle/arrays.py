"""Arrays out of bytes that nobody vouches for, in numpy's two formats.

What they say of themselves is checked before memory is taken for it: an array is as long as its bytes, and an archive
holds no compressed member and none twice, so that all its arrays together take no more than the file has.
"""

import io
import math
import struct
import tokenize
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

Content = bytes | memoryview  # of a file; a large one is a read-only view

_LONGEST_HEADER = 1 << 17  # bytes; numpy takes 10,000 characters at most
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy raises for bytes that are no array, some of it by the way of Python's own parser.
_NO_ARRAY = (ValueError, KeyError, TypeError, OverflowError, EOFError, MemoryError, SyntaxError, tokenize.TokenError)
# And zipfile for bytes that are no archive; RuntimeError for a member that asks for a password.
_NO_ARCHIVE = (BadZipFile, ValueError, OSError, EOFError, RuntimeError, OverflowError, struct.error)


def parse_npy(content: Content) -> NDArray[np.generic]:
    """The array of a .npy file, read-only and not copied. Raises ValueError."""
    stream = io.BytesIO(content[:_LONGEST_HEADER])
    try:
        read_header = _HEADERS[np.lib.format.read_magic(stream)]
        shape, by_column, dtype = read_header(stream)
        if dtype.hasobject or dtype.fields or not dtype.itemsize:
            raise ValueError("plain values are expected")
        count = math.prod(shape)
        if len(content) - stream.tell() != count * dtype.itemsize:
            raise ValueError(f"{shape} of {dtype} do not fit its length")
        if not count:
            return np.empty(shape, dtype)
        array: NDArray[np.generic] = np.frombuffer(content, dtype, count, stream.tell())
        return array.reshape(shape, order="F" if by_column else "C")
    except _NO_ARRAY as error:
        raise ValueError(str(error)) from error


def parse_npz(content: Content) -> dict[str, NDArray[np.generic]]:
    """The arrays of a .npz file by name. Raises ValueError."""
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(each.compress_type != ZIP_STORED or each.compress_size != each.file_size for each in members):
                raise ValueError("a member is compressed")
            if sum(each.file_size for each in members) > len(content):
                raise ValueError("its members are longer than it is")
            return {each.filename.removesuffix(".npy"): parse_npy(archive.read(each)).copy() for each in members}
    except _NO_ARCHIVE as error:
        raise ValueError(str(error)) from error
