"""Files that gzip or zstd compressed, read as what they were before, and no further than real data unpacks."""

import io
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dploss.files.untrusted import check_claim

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_BUFFER = 2**20


def inner_suffix(path: Path) -> str:
    """The suffix that says what is in a file, in lower case: .jsonl of a.jsonl and of a.jsonl.gz."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in COMPRESSIONS else suffix


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file to read it from its start to its end; a compressed one is decompressed meanwhile.

    Raises:
        InputError: while it is read: it unpacks to more than real data does.
        OSError: it cannot be opened, or, while it is read, it is corrupt.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        return open(path, "rb")
    return io.BufferedReader(_Unpacked(path, compression), _BUFFER)


class _Unpacked(io.RawIOBase):
    """What a compressed file unpacks to."""

    def __init__(self, path: Path, compression: str) -> None:
        self.path, self.size = path, 0
        self.stream = pa.CompressedInputStream(pa.OSFile(str(path)), compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = self.stream.readinto(buffer)
        self.size += count
        check_claim(self.path, self.size)
        return count
