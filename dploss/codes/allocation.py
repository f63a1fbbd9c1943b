"""Bits of a code, dimension by dimension: each to the one where it helps most."""

import heapq
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dploss.text import counted

# Measured best (docs/BYTES.md): a query weighs an error by its own variance there, beside the error's. Queries that are
# compared by inner product are sphered, their variances equal: then the least squared error keeps most, measured.
_POWERS = {"euclidean": 1.5, "ip": 1.0}


def allocate_bits(variances: np.ndarray, n_bits: int, errors: Sequence[float], metric: str = "euclidean") -> np.ndarray:
    """How many bits each dimension gets.

    The next bit goes where variance^1.5 * (error before - error after) is largest; for inner products the power is 1,
    which is reverse water-filling, the least squared error (Cover & Thomas, Elements of Information Theory, section
    10.3.3).

    Args:
        variances: (d,) of the dimensions, at least 0.
        n_bits: to give away.
        errors: mean squared error of a unit Gaussian with 0, 1, 2, ... bits; falling, and the most bits a dimension can
            have is that of its last entry.
        metric: see `Code`.

    Returns:
        (d,) int64 that add up to n_bits.

    Raises:
        ValueError: no bits, or more than the dimensions can hold.
    """
    most = len(errors) - 1
    if not 1 <= n_bits <= most * len(variances):
        holders = counted(len(variances), "dimension holds", "dimensions hold")
        raise ValueError(f"{holders} 1 to {most * len(variances)} bits, not {n_bits}")
    # Also dimensions without variance can take bits, where there are more bits than others can hold.
    weights = np.maximum(variances, 1e-30 * max(float(variances.max()), 1e-300)) ** _POWERS[metric]
    gains = [before - after for before, after in pairwise(errors)]
    bits = np.zeros(len(variances), np.int64)
    waiting = [(-weight * gains[0], dim) for dim, weight in enumerate(weights)]
    heapq.heapify(waiting)
    for _ in range(n_bits):
        _, dim = heapq.heappop(waiting)
        bits[dim] += 1
        if bits[dim] < most:
            heapq.heappush(waiting, (-weights[dim] * gains[bits[dim]], dim))
    return bits
