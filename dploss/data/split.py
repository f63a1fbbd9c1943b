"""Which rows are trained on and which are held out."""

import numpy as np


def split_rows(rows: int, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers at random, the same way for the same arguments on every machine.

    Args:
        rows: how many there are.
        val_fraction: share to hold out, 0 <= val_fraction < 1; rounded to whole rows.
        seed: of the shuffle, 0..2**32 - 1.

    Returns:
        Sorted int64 row numbers: those to train on, those held out.
    """
    # RandomState: its stream is frozen by NumPy, so an experiment's split can be made again years later.
    order = np.random.RandomState(seed).permutation(rows)
    held_out = round(rows * val_fraction)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def evenly_spaced(n: int, most: int) -> np.ndarray:
    """Ascending int64 indices of min(n, most) of n rows, evenly spaced, the first and the last among them."""
    return np.linspace(0, n - 1, min(n, most)).astype(int)
