"""Inverted lists: rows by the nearest of some centroids, so that a search looks at a part of them alone.

Needs the extra `faiss`: pip install 'dploss[faiss]'. Sivic & Zisserman, Video Google, 2003; Jegou et al., Product
quantization for nearest neighbor search, 2011.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dploss.errors import InputError

# Lists are decoded together until they have as many rows.
_GROUP_ROWS = 16384


class InvertedLists:
    """Which rows lie nearest to which centroid.

    Args:
        centroids: (nlist, p) float32.
        lists: (N,) int32, the list of each row.

    Raises:
        InputError: faiss is not installed.
    """

    def __init__(self, centroids: np.ndarray, lists: np.ndarray | None = None) -> None:
        self.centroids = centroids
        self.lists = np.empty(0, np.int32) if lists is None else lists
        self._nearest = _faiss().IndexFlatL2(centroids.shape[1])
        self._nearest.add(centroids)
        self._sort()

    @classmethod
    def train(cls, points: np.ndarray, nlist: int) -> "InvertedLists":
        """Centroids of (n, p) float32 points by k-means, without rows in their lists.

        Raises:
            InputError: faiss is not installed, or there are fewer points than lists.
        """
        if len(points) < nlist:
            raise InputError(f"nlist is {nlist}, more than the {len(points)} rows to train its lists on")
        # Few points for a centroid are the caller's choice: no warning.
        kmeans = _faiss().Kmeans(points.shape[1], nlist, niter=10, seed=0, min_points_per_centroid=1)
        kmeans.train(points)
        return cls(kmeans.centroids)

    def add(self, lists: np.ndarray) -> None:
        """Put the next rows into their (n,) int32 lists."""
        self.lists = np.concatenate([self.lists, lists])
        self._sort()

    def probes(self, points: np.ndarray, nprobe: int) -> np.ndarray:
        """(n, p) float32 points -> (n, nprobe) int64, the lists of their nearest centroids; all if there are fewer."""
        return self._nearest.search(np.ascontiguousarray(points), min(nprobe, len(self.centroids)))[1]

    def visits(self, queries: np.ndarray, nprobe: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Which queries have to look at which rows, some lists at a time.

        Args:
            queries: (m, p) float32.
            nprobe: lists that each looks at.

        Yields:
            The int32 ids of the rows of some lists, list by list; and (v, 3) int64 visits in the same order: a query,
            and the bounds of the list that it looks at, among these ids. No list is empty.
        """
        probes = self.probes(queries, nprobe)
        order = np.argsort(probes, axis=None, kind="stable")
        numbers, begins, counts = np.unique(probes.ravel()[order], return_index=True, return_counts=True)
        asking = order // probes.shape[1]
        sizes = self._starts[numbers + 1] - self._starts[numbers]
        filled = np.flatnonzero(sizes)
        groups = np.flatnonzero(np.diff(np.cumsum(sizes[filled]) // _GROUP_ROWS)) + 1
        for group in np.split(filled, groups) if len(filled) else []:
            ends = np.cumsum(sizes[group])
            bounds = np.column_stack([ends - sizes[group], ends])
            asked = np.concatenate([asking[begins[one] : begins[one] + counts[one]] for one in group])
            rows = np.concatenate([self._rows(number) for number in numbers[group]])
            yield rows, np.column_stack([asked, np.repeat(bounds, counts[group], axis=0)])

    def _rows(self, number: int) -> np.ndarray:
        return self._order[self._starts[number] : self._starts[number + 1]]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.centroids.nbytes + self.lists.nbytes + self._order.nbytes + self._starts.nbytes

    def _sort(self) -> None:
        self._order = np.argsort(self.lists, kind="stable").astype(np.int32)
        counts = np.bincount(self.lists, minlength=len(self.centroids))
        self._starts = np.concatenate([[0], np.cumsum(counts)])


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError("nlist needs faiss, which is not installed: pip install 'dploss[faiss]'") from error
    return faiss
