"""Files of codes that encode.py wrote, each with a JSON sidecar that describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dploss.codes.quantizer import Quantizer
from dploss.data.vectors import read_matrix
from dploss.errors import InputError
from dploss.files.untrusted import read_json

_NOT_A_SIDECAR = "not a sidecar that encode.py wrote"


@dataclass(frozen=True)
class Origins:
    """What codes were made from.

    Attributes:
        checkpoint: path of the encoder's checkpoint.
        data: the vectors, as `open_vectors` takes them.
        column: the vectors' column; None if none was named.
    """

    checkpoint: str
    data: str
    column: str | None


def sidecar(path: Path) -> Path:
    """The path of the JSON file that says how the codes in `path` are stored and what they were made from."""
    return path.with_name(f"{path.name}.json")


def read_origins(path: Path) -> Origins:
    """What the codes in `path` were made from.

    Raises:
        InputError: the sidecar is missing, or lacks them.
    """
    stored = _read_sidecar(path)
    checkpoint, data, column = (stored.get(name) for name in ("checkpoint", "data", "column"))
    if not (isinstance(checkpoint, str) and isinstance(data, str) and isinstance(column, str | None)):
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}")
    return Origins(checkpoint, data, column)


def read_codes(path: Path, indices: np.ndarray) -> tuple[np.ndarray, Quantizer]:
    """Some rows of a file of codes, dequantised.

    Args:
        path: the file of codes.
        indices: (n,) indices of the rows, from 0.

    Returns:
        (n, d) float32 latents, and the quantizer that the codes were made with.

    Raises:
        InputError: a file is missing or damaged, or has too few rows.
    """
    stored = _read_sidecar(path)
    try:
        quantizer = Quantizer.from_dict(stored)
    except (TypeError, ValueError) as error:
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}: {error}") from error
    codes = read_matrix(str(path))
    if codes.shape[1] != quantizer.stored[1] or (len(indices) and indices.max() >= len(codes)):
        raise InputError(f"{path}: it has {codes.shape[0]:,} rows of {codes.shape[1]}, not the codes of these vectors")
    return quantizer.dequantize(codes[indices]), quantizer


def _read_sidecar(path: Path) -> Mapping[str, Any]:
    stored = read_json(sidecar(path), _NOT_A_SIDECAR)
    if not isinstance(stored, dict):
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}")
    return stored
