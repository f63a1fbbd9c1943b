"""StoredCode: whose bytes a file of codes holds, so that no other code is taken to read them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dploss.codes.code import Code
from dploss.text import counted


@dataclass(frozen=True)
class StoredCode:
    """The code of a file of codes. The code itself is in a checkpoint; two that are equal here decode alike.

    Attributes:
        name: of the code, a key of ALL_CODES.
        n_bytes: of a row.
        dim: d, dimensions of a latent.
        sha256: of all that the code is made of.
    """

    name: str
    n_bytes: int
    dim: int
    sha256: str
    dtype: ClassVar[str] = "uint8"

    @classmethod
    def of(cls, code: Code) -> "StoredCode":
        """The description of a code."""
        digest = hashlib.sha256(f"{code.name} {code.bytes_per_vector}".encode())
        for name, array in sorted(code.arrays().items()):
            stored = np.asarray(array, array.dtype.newbyteorder("<"))
            digest.update(f"\n{name} {stored.dtype.str} {stored.shape}\n".encode() + stored.tobytes())
        return cls(code.name, code.bytes_per_vector, code.dim, digest.hexdigest())

    @property
    def stored(self) -> tuple[np.dtype, int]:
        """The dtype of the codes, and how many of them a latent takes."""
        return np.dtype(self.dtype), self.n_bytes

    @property
    def label(self) -> str:
        """For a person: name and bytes."""
        return f"{self.name}, {counted(self.n_bytes, 'byte')}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "dtype": self.dtype,
            "dim": self.dim,
            "code": self.name,
            "bytes": self.n_bytes,
            "code_sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "StoredCode":
        """From what `as_dict` gave; further keys are ignored.

        Raises:
            ValueError: something is missing or invalid.
        """
        name, n_bytes, dim, sha256 = (stored.get(key) for key in ("code", "bytes", "dim", "code_sha256"))
        if not isinstance(name, str) or not isinstance(sha256, str) or stored.get("dtype") != cls.dtype:
            raise ValueError(f"code is {name!r}, code_sha256 {sha256!r}, dtype {stored.get('dtype')!r}")
        if type(n_bytes) is not int or type(dim) is not int or n_bytes < 1 or dim < 1:
            raise ValueError(f"bytes is {n_bytes!r}, dim {dim!r}")
        return cls(name, n_bytes, dim, sha256)
