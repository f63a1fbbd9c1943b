"""Codes fitted once for all tests, and rows of falling variance as embeddings have them."""

from functools import cache

import numpy as np
import pytest

from dploss.codes.build import ALL_CODES, CODES
from dploss.codes.code import Code

DIM, N_BYTES = 24, 4


def latents(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """(n, dim) float32 rows of length 1, turned so that no axis is a coordinate."""
    random = np.random.RandomState(seed)
    turn = np.linalg.qr(np.random.RandomState(dim).standard_normal((dim, dim)))[0]
    rows = (random.standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim)) + 0.2) @ turn
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def curved(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """(n, dim) float32 rows, half of whose coordinates are products of the others: what training gains from."""
    first = np.random.RandomState(seed).standard_normal((n, dim // 2)) / np.sqrt(1 + np.arange(dim // 2) / 4)
    turn = np.linalg.qr(np.random.RandomState(dim).standard_normal((dim, dim)))[0]
    return (np.hstack([first, 0.7 * first * np.roll(first, 1, axis=1)]) @ turn).astype(np.float32)


@cache
def fitted(name: str) -> Code:
    """A code of 4 bytes for 24 dimensions; a trained one for `curved` rows, whether or not it gains of them."""
    with pytest.MonkeyPatch.context() as patch:
        # Few and small steps, for tests that run side by side.
        patch.setattr("dploss.codes.by_loss._BATCH", 128)
        patch.setattr("dploss.codes.by_loss._STEPS", 100)
        patch.setattr("dploss.codes.by_loss.shares_kept", lambda *_: (0, 1))
        code = ALL_CODES[name].fit(rows_for(name, 400 if name in CODES else 3000), N_BYTES)
    assert code.name == name
    return code


def rows_for(name: str, n: int, seed: int = 0) -> np.ndarray:
    """(n, DIM) rows like those that `fitted` was fitted to."""
    return latents(n, seed=seed) if name in CODES else curved(n, seed=seed)
