"""Damage done to files as disks, networks, editors and foes do it: the same bytes for the same seed."""

import random
import re
import struct
from collections.abc import Callable, Sequence

_EXTREMES = (0, 1, -1, 2**7, 2**15 - 1, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, -(2**63))
_HEADER = 200


def mutated(sample: bytes, others: Sequence[bytes], seed: int) -> bytes:
    """The sample, damaged once to four times, or an empty file, or noise.

    Args:
        sample: a whole file.
        others: files to end it with the ends of.
        seed: of the damage.
    """
    rng = random.Random(seed)
    if rng.random() < 0.02:
        return rng.randbytes(rng.choice((0, 1, 4, 100, 5000)))
    data = bytearray(sample)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_DAMAGES)(data, rng, others)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, but half of the time in the first or last bytes, where formats keep what they say of themselves."""
    size = len(data)
    near = rng.randrange(min(_HEADER, size) + 1)
    return rng.choice((rng.randrange(size + 1), rng.randrange(size + 1), near, size - near))


def _block(data: bytearray, rng: random.Random) -> slice:
    start = _place(data, rng)
    return slice(start, start + rng.choice((1, 2, 8, 64, 1000)))


def _truncate(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[_place(data, rng) :]


def _flip_bits(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 5, 50))):
        place = _place(data, rng)
        data[place : place + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in data[place : place + 1])


def _overwrite(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    block = _block(data, rng)
    length = len(data[block])
    data[block] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))


def _insert(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    place = _place(data, rng)
    data[place:place] = rng.choice((b"\n", b"\0", b"\xef\xbb\xbf", b"[" * 3000, b"\xff\xfe", rng.randbytes(64)))


def _delete(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[_block(data, rng)]


def _duplicate(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    block = _block(data, rng)
    data[block] = data[block] * rng.choice((2, 3, 50))


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    data[_place(data, rng) :] = other[_place(bytearray(other), rng) :]


def _extreme_number(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    form = rng.choice("<>") + rng.choice("BHIQ")
    number = struct.pack(form, rng.choice(_EXTREMES) % 256 ** struct.calcsize(form))
    place = _place(data, rng)
    data[place : place + len(number)] = number


def _extreme_digits(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """A number in the file's text becomes another, or none at all."""
    found = list(re.finditer(rb"\d+(\.\d+)?", data[: rng.choice((_HEADER, 10_000))]))
    if found:
        words = (b"NaN", b"Infinity", b"1e400", b"null", b"true", b'"a"', b"[]", b"{}", b"9" * 400, b"9" * 5000, b"0.5")
        numbers = [str(number).encode() for number in _EXTREMES]
        data[slice(*rng.choice(found).span())] = rng.choice((*words, *numbers))


_Damage = Callable[[bytearray, random.Random, Sequence[bytes]], None]
_DAMAGES: tuple[_Damage, ...] = (
    *(_truncate, _flip_bits, _flip_bits, _overwrite, _insert, _delete, _duplicate, _splice),
    *(_extreme_number, _extreme_number, _extreme_digits),
)
