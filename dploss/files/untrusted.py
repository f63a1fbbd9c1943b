"""Reading untrusted files: whatever is wrong with one raises an InputError, and no memory is taken before the check."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dploss.errors import InputError

# Real vectors compress to more than a hundredth of their size, and any machine has 256 MiB.
_UNPACKED = 100
SMALL_BYTES = 2**28
_DEPTH = 50


@contextmanager
def decoding(path: str | Path, trouble: str) -> Iterator[None]:
    """Turn any exception inside into an InputError.

    Corrupt bytes raise errors of any kind in the decoders of other libraries: TokenError, LZMAError, struct.error,
    UnicodeDecodeError, MemoryError, ... Put nothing but a decoder inside.

    Args:
        path: of the file, for the message.
        trouble: the message, like "not a readable image".
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {trouble}: {str(error) or type(error).__name__}") from error


def regular_file(path: Path) -> Path:
    """Check that `path` is a regular file, and return it: reading a pipe or a device might never end.

    Raises:
        InputError: it does not exist, or is no regular file.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: " + ("not a file" if os.path.exists(path) else "no such file"))
    return path


def check_claim(path: Path, unpacked: int) -> None:
    """Refuse a small file that declares a large array, before memory is allocated for it.

    Args:
        path: of the file.
        unpacked: declared size in bytes.

    Raises:
        InputError: the declared size is more than real data compresses to the file's.
    """
    size = path.stat().st_size
    if unpacked > max(SMALL_BYTES, _UNPACKED * size):
        raise InputError(f"{path}: corrupt: declares {unpacked:,} bytes, too many for a file of {size:,}")


def read_json(path: Path, trouble: str) -> Any:
    """The content of a JSON file, safe to print, to copy and to write again.

    Raises:
        InputError: no such file, not JSON, not valid Unicode, or nested too deeply.
    """
    with decoding(path, trouble):
        value = json.loads(regular_file(path).read_text(encoding="utf-8"))
        # JSON can contain a lone surrogate, "\ud800", which cannot be encoded, unless it is a path's byte, not UTF-8.
        json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
    level, depth = [value], 0
    while level:
        if depth > _DEPTH:
            raise InputError(f"{path}: {trouble}: nested more than {_DEPTH} levels deep")
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return value
