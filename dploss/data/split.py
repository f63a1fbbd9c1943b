"""Which rows are trained on, which are held out, and which stand for all where fewer will do."""

import numpy as np

_LEAST_QUERIES = 1000


def split_rows(n_rows: int, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split row indices at random, the same way for the same arguments on every machine.

    Args:
        n_rows: how many there are.
        val_fraction: share to hold out, 0 <= val_fraction < 1; rounded to whole rows.
        seed: of the shuffle, 0..2**32 - 1.

    Returns:
        Sorted int64 row indices: those to train on, those held out.
    """
    # RandomState: its stream is frozen by NumPy, so an experiment's split can be made again years later.
    order = np.random.RandomState(seed).permutation(n_rows)
    held_out = round(n_rows * val_fraction)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def split_queries(n: int, val_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split queries as `split_rows` splits rows, but hold out 1,000 at least, up to half: fewer say little.

    Args:
        n: how many there are.
        val_fraction: share to hold out; 0 holds out none.
        seed: of the shuffle.

    Returns:
        Sorted int64 indices: those to train on, those held out.
    """
    if not val_fraction:
        return split_rows(n, 0, seed)
    return split_rows(n, max(val_fraction, min(_LEAST_QUERIES, n // 2) / n), seed)


def evenly_spaced(n: int, most: int) -> np.ndarray:
    """Indices of at most `most` of n rows, evenly spaced, with the first and, where there are two, the last.

    Args:
        n: how many rows there are.
        most: how many indices are wanted; all n where n is smaller.

    Returns:
        (min(n, most),) integers, ascending.
    """
    return np.linspace(0, n - 1, min(n, most)).astype(int)
