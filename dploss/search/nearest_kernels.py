"""Compiled loop that keeps the nearest rows of each query, in a heap whose root is the farthest of them."""

import numba
import numpy as np


@numba.njit(error_model="numpy", cache=True)
def _replace_root(scores, ids, score, row):  # noqa: ANN001, ANN202
    """Put a row in the place of the farthest; of rows as far, that of the higher id is the farther."""
    place, size = 0, len(scores)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            scores[other] > scores[child] or (scores[other] == scores[child] and ids[other] > ids[child])
        ):
            child = other
        if scores[child] < score or (scores[child] == score and ids[child] < row):
            break
        scores[place], ids[place] = scores[child], ids[child]
        place = child
    scores[place], ids[place] = score, row


@numba.njit(parallel=True, error_model="numpy", cache=True)
def keep_nearest(products, biases, rows, scores, ids, threads):  # noqa: ANN001, ANN201
    """Put rows that are nearer than a query's farthest into its heap.

    Args:
        products: (n, m) float32, of rows and queries; the score of a row is its bias less twice its product.
        biases: (n,) float32.
        rows: (n,) int64 ids of the rows.
        scores: (m, k) float32 heaps of the queries' least scores, at first inf.
        ids: (m, k) int64 of their rows, at first -1.
        threads: to run in; a constant in here could not be cached.
    """
    n_queries = products.shape[1]
    share = (n_queries + threads - 1) // threads
    for thread in numba.prange(threads):
        begin, end = min(thread * share, n_queries), min((thread + 1) * share, n_queries)
        limits = scores[begin:end, 0].copy()
        for i in range(len(rows)):
            for j in range(end - begin):
                score = biases[i] - 2 * products[i, begin + j]
                if score < limits[j] or (score == limits[j] and rows[i] < ids[begin + j, 0]):
                    _replace_root(scores[begin + j], ids[begin + j], score, rows[i])
                    limits[j] = scores[begin + j, 0]


@numba.njit(error_model="numpy", fastmath={"reassoc", "contract"}, cache=True)
def _product(one, other):  # noqa: ANN001, ANN202
    total = np.float32(0)
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@numba.njit(parallel=True, error_model="numpy", cache=True)
def keep_nearest_of_visits(points, biases, rows, visits, projected, scores, ids, threads):  # noqa: ANN001, ANN201
    """`keep_nearest` where each query looks at some of the rows alone.

    Args:
        points: (n, p) float32 of the rows.
        biases: (n,) float32.
        rows: (n,) int32 ids of the rows.
        visits: (v, 3) int64: a query, and the bounds of its rows among the n; ordered by these.
        projected: (m, p) float32 queries.
        scores: see `keep_nearest`.
        ids: see `keep_nearest`.
        threads: see `keep_nearest`; each has its own queries.
    """
    for thread in numba.prange(threads):
        first = 0
        while first < len(visits):
            last = first
            while last < len(visits) and visits[last, 1] == visits[first, 1]:
                last += 1
            for row in range(visits[first, 1], visits[first, 2]):
                for visit in range(first, last):
                    query = visits[visit, 0]
                    if query % threads != thread:
                        continue
                    score = biases[row] - 2 * _product(points[row], projected[query])
                    limit = scores[query, 0]
                    if score < limit or (score == limit and rows[row] < ids[query, 0]):
                        _replace_root(scores[query], ids[query], score, rows[row])
            first = last
