"""Codes fitted once for all tests, and rows of falling variance as embeddings have them."""

from functools import cache

import numpy as np

from dploss.codes.build import fit_code
from dploss.codes.code import Code

DIM, N_BYTES = 24, 4


def latents(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """(n, dim) float32 rows of length 1, turned so that no axis is a coordinate."""
    random = np.random.RandomState(seed)
    turn = np.linalg.qr(np.random.RandomState(dim).standard_normal((dim, dim)))[0]
    rows = (random.standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim)) + 0.2) @ turn
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@cache
def fitted(name: str) -> Code:
    """A code of 4 bytes for 24 dimensions."""
    return fit_code(name, latents(400), N_BYTES)
