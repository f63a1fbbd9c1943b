"""Files of codes that encode.py wrote, each with a JSON sidecar that describes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dploss.codes.code import Code
from dploss.codes.code_stream import CodeStream
from dploss.codes.quantizer import Quantizer
from dploss.codes.stored_code import StoredCode
from dploss.data.vectors import read_matrix
from dploss.errors import InputError
from dploss.files.untrusted import read_json
from dploss.text import counted

_NOT_A_SIDECAR = "not a sidecar that encode.py wrote"

# How the rows of a file are stored.
Form = Quantizer | StoredCode


@dataclass(frozen=True)
class Origins:
    """What codes were made from.

    Attributes:
        checkpoint: path of the encoder's checkpoint.
        data: the vectors, as `open_vectors` takes them.
        column: the vectors' column; None if none was named.
        has_bad_rows: whether some vectors could not be used, and have no codes.
    """

    checkpoint: str
    data: str
    column: str | None
    has_bad_rows: bool


def sidecar(path: Path) -> Path:
    """The path of the JSON file that says how the codes in `path` are stored and what they were made from."""
    return path.with_name(f"{path.name}.json")


def form_of(stored: Mapping[str, Any]) -> Form:
    """What `as_dict` was called on.

    Raises:
        ValueError: it is neither form.
    """
    return StoredCode.from_dict(stored) if "code" in stored else Quantizer.from_dict(stored)


def read_origins(path: Path) -> Origins:
    """What the codes in `path` were made from.

    Raises:
        InputError: the sidecar is missing, or lacks them.
    """
    stored = _read_sidecar(path)
    checkpoint, data, column = (stored.get(name) for name in ("checkpoint", "data", "column"))
    if not (isinstance(checkpoint, str) and isinstance(data, str) and isinstance(column, str | None)):
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}")
    bad_rows = stored.get("bad_rows")
    return Origins(checkpoint, data, column, isinstance(bad_rows, dict) and bool(bad_rows.get("kinds")))


def read_codes(path: Path, indices: np.ndarray, code: Code | None = None) -> tuple[np.ndarray, Form]:
    """Some rows of a file of codes, dequantised or decoded.

    Args:
        path: the file of codes.
        indices: (n,) indices of the rows, from 0.
        code: the encoder's.

    Returns:
        (n, d) float32 latents, and how they are stored.

    Raises:
        InputError: a file is missing or damaged, has too few rows, none for one of these, or holds codes of another
            code.
    """
    form = _read_form(path)
    if isinstance(form, StoredCode):
        stream, code = open_codes(path, code)
        _check_shape(path, (stream.rows, stream.width), form, indices)
        return code.decode(stream.pick(indices)), form
    matrix = read_matrix(str(path))
    _check_shape(path, matrix.shape, form, indices)
    rows = matrix[indices]
    # Null in parquet is NaN here.
    missing = np.isnan(rows).any(axis=1)
    if missing.any():
        raise InputError(f"{path}: row {indices[missing][0]} has no latent")
    return form.dequantize(rows), form


def _check_shape(path: Path, shape: tuple[int, ...], form: Form, indices: np.ndarray) -> None:
    if shape[1] != form.stored[1] or (len(indices) and indices.max() >= shape[0]):
        raise InputError(f"{path}: it has {shape[0]:,} rows of {shape[1]}, not the codes of these vectors")


def open_codes(path: Path, code: Code | None, column: str | None = None) -> tuple[CodeStream, Code]:
    """Open a file of codes, once it is known that a code is the one that made them.

    Args:
        path: the file of codes.
        code: an encoder's.
        column: of the codes in parquet; the last if None.

    Returns:
        The codes, and the code.

    Raises:
        InputError: a file is missing or damaged, or the codes are of another code, or none.
    """
    form = _read_form(path)
    if isinstance(form, Quantizer):
        raise InputError(f"{path}: it holds {form.dtype} latents, not codes")
    if code is None or StoredCode.of(code) != form:
        experiment = _read_sidecar(path).get("experiment_id")
        raise InputError(f"{path}: codes of experiment {experiment}, and the checkpoint has another code, or none")
    stream = CodeStream(path, code.bytes_per_vector, column)
    rows = _read_sidecar(path).get("rows")
    if stream.rows != rows:
        raise InputError(f"{path}: it has {counted(stream.rows, 'row')}, {sidecar(path).name} is of {rows} rows")
    return stream, code


def _read_form(path: Path) -> Form:
    stored = _read_sidecar(path)
    try:
        return form_of(stored)
    except (TypeError, ValueError) as error:
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}: {error}") from error


def _read_sidecar(path: Path) -> Mapping[str, Any]:
    stored = read_json(sidecar(path), _NOT_A_SIDECAR)
    if not isinstance(stored, dict):
        raise InputError(f"{sidecar(path)}: {_NOT_A_SIDECAR}")
    return stored
