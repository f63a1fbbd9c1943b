"""What a file that somebody made or downloaded can do to its reader, brought down to one InputError."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dploss.errors import InputError

# Real vectors pack to more than a hundredth of their size, and any machine has 256 MiB.
_UNPACKED = 100
_SMALL = 2**28
_DEPTH = 50


@contextmanager
def decoding(path: str | Path, trouble: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an InputError.

    Damaged bytes lead the decoders of other libraries to errors of any kind: TokenError, LZMAError, struct.error,
    UnicodeDecodeError, MemoryError, ... Put nothing but a decoder inside.

    Args:
        path: of the file.
        trouble: what to say of it, like "not a readable image".
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {trouble}: {str(error) or type(error).__name__}") from error


def regular_file(path: Path) -> Path:
    """The path, where a file is there: from a pipe or a device one might read for ever.

    Raises:
        InputError: nothing is there, or something else.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: " + ("not a file" if os.path.exists(path) else "no such file"))
    return path


def check_claim(path: Path, unpacked: int) -> None:
    """Refuse a small file that claims to unpack to a large array, before memory is taken for it.

    Args:
        path: of the file.
        unpacked: bytes that it claims.

    Raises:
        InputError: it claims more than anything real does.
    """
    size = path.stat().st_size
    if unpacked > max(_SMALL, _UNPACKED * size):
        raise InputError(
            f"{path}: its {size:,} bytes claim to hold {unpacked:,}: it is damaged, or made to fill memory"
        )


def read_json(path: Path, trouble: str) -> Any:
    """The content of a JSON file, which can be told, copied and written again.

    Raises:
        InputError: no such file, not JSON, text that no encoding has, or lists in lists without end.
    """
    with decoding(path, trouble):
        value = json.loads(regular_file(path).read_text(encoding="utf-8"))
        # JSON can spell half a character, "\ud800", which cannot be printed.
        json.dumps(value, ensure_ascii=False).encode()
    level, depth = [value], 0
    while level:
        if depth > _DEPTH:
            raise InputError(f"{path}: {trouble}: it is nested more than {_DEPTH} deep")
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return value
