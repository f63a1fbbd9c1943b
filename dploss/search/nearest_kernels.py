"""Compiled loop that keeps the nearest rows of each query, in a heap whose root is the farthest of them."""

import numba

from dploss.files.kernel_cache import kernel


@kernel(error_model="numpy")
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


@kernel(parallel=True, error_model="numpy")
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


@kernel(parallel=True, error_model="numpy")
def keep_nearest_of_visits(products, biases, visits, scores, rows, threads):  # noqa: ANN001, ANN201
    """`keep_nearest` where each query looks at some of the rows alone.

    Args:
        products: from `Code.visited_products`.
        biases: (N,) float32, of all rows.
        visits: (v, 3) int64: a query, and the bounds of its rows.
        scores: see `keep_nearest`.
        rows: (m, k) int64, the rows that they are of, at first -1.
        threads: see `keep_nearest`; each has its own queries.
    """
    for thread in numba.prange(threads):
        place = 0
        for query, begin, end in visits:
            if query % threads == thread:
                near, kept = scores[query], rows[query]
                for row in range(begin, end):
                    score = biases[row] - 2 * products[place + row - begin]
                    if score < near[0] or (score == near[0] and row < kept[0]):
                        _replace_root(near, kept, score, row)
            place += end - begin
