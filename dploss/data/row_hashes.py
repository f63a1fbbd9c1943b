"""Rows known again by their values: which rows of one file are also in another, whatever its order and format."""

import hashlib

import numpy as np

from dploss.data.memmap import MappedRows

_CHUNK_ROWS = 4096


def row_hashes(rows: np.ndarray | MappedRows) -> np.ndarray:
    """A hash of the float32 values of each row.

    Args:
        rows: (N, D) float32, in memory or on the disk.

    Returns:
        (N,) uint64. Among a million rows, two that differ have the same hash with a probability below 1e-7.
    """
    digests = bytearray()
    for start in range(0, len(rows), _CHUNK_ROWS):
        # -0 and 0 are one value, and have different bits: the sum of both is 0.
        for row in rows[start : start + _CHUNK_ROWS] + np.float32(0):
            digests += hashlib.sha256(row).digest()[:8]
    return np.frombuffer(digests, np.uint64)


def occur_in(rows: np.ndarray | MappedRows, others: np.ndarray | MappedRows) -> np.ndarray:
    """(N,) bool: which of (N, D) rows are among (M, D) others, to the last bit."""
    return np.isin(row_hashes(rows), row_hashes(others))
