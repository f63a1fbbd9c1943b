"""The file of an index: an uncompressed .npz archive, of which the codes are mapped and not read."""

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dploss.files.atomic import atomic_write
from dploss.files.untrusted import decoding, regular_file

_MAPPED = "codes"
_NOT_AN_INDEX = "not a readable index: corrupt, cut short, or another kind of file"
# Of a zip file's entry: its header, whose bytes 26 to 30 are the lengths of the name and of what follows the name.
_HEADER_BYTES = 30


def write_index(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of an index atomically.

    Raises:
        OSError: the disk is full, the folder is not writable, ...
    """
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_index(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `write_index` wrote; the codes stay on the disk, mapped.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    with decoding(path, _NOT_AN_INDEX), zipfile.ZipFile(regular_file(path)) as archive:
        members = archive.infolist()
        # Stored as they are, arrays take no more memory than the file's size.
        if any(one.compress_type != zipfile.ZIP_STORED for one in members):
            raise ValueError("it is compressed")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == _MAPPED:
                arrays[name] = _map(path, member)
            else:
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _map(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """The matrix of bytes in a member of the archive; ValueError if it is none."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        lengths = struct.unpack("<HH", file.read(_HEADER_BYTES)[-4:])
        file.seek(sum(lengths), os.SEEK_CUR)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("its codes are of another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if dtype != np.uint8 or fortran or len(shape) != 2:
        raise ValueError(f"its codes are {dtype} of shape {shape}")
    if not shape[0]:
        # Nothing cannot be mapped.
        return np.empty(shape, np.uint8)
    # Copy on write: compiled loops are compiled anew for arrays that are read-only.
    return np.asarray(np.memmap(path, np.uint8, "c", start, shape))
