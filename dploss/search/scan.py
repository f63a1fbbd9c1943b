"""Scans of stored codes that keep the nearest rows of each query: of all rows, or of the inverted lists it visits."""

from collections.abc import Iterable

import numpy as np

from dploss.codes.code import Code

# Products that are held at once: 16 MB.
_PRODUCTS = 2**22
_LEAST_ROWS = 4096


def scan(code: Code, codes: np.ndarray, biases: np.ndarray, projected: np.ndarray, size: int) -> np.ndarray:
    """The nearest of all rows.

    Args:
        code: of the codes.
        codes: (N, bytes_per_vector) uint8.
        biases: (N,) float32, see `Code.points`.
        projected: (m, p) float32 queries, see `Code.project`.
        size: rows to keep for each query, 1..N.

    Returns:
        (m, size) int64 rows, in any order.
    """
    # Imported late: numba takes a second to import.
    import numba

    from dploss.search.nearest_kernels import keep_nearest

    scores, ids = _heaps(len(projected), size)
    step = max(_LEAST_ROWS, _PRODUCTS // len(projected))
    for start in range(0, len(codes), step):
        products = code.products(projected, codes[start : start + step])
        rows = np.arange(start, start + len(products))
        keep_nearest(products, biases[start : start + step], rows, scores, ids, numba.get_num_threads())
    return ids


def scan_lists(
    code: Code,
    codes: np.ndarray,
    biases: np.ndarray,
    projected: np.ndarray,
    size: int,
    visits: Iterable[np.ndarray],
) -> np.ndarray:
    """The nearest of the rows that each query visits.

    Args:
        code: see `scan`.
        codes: see `scan`.
        biases: see `scan`.
        projected: see `scan`.
        size: rows to keep for each query, at least 1.
        visits: from `InvertedLists.visits`.

    Returns:
        (m, size) int64 rows, in any order; -1 where fewer rows were visited.
    """
    import numba

    from dploss.search.nearest_kernels import keep_nearest_of_visits

    scores, rows = _heaps(len(projected), size)
    for visited in visits:
        products = code.visited_products(projected, codes, visited)
        keep_nearest_of_visits(products, biases, visited, scores, rows, numba.get_num_threads())
    return rows


def _heaps(queries: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((queries, size), np.inf, np.float32), np.full((queries, size), -1, np.int64)
