"""Inverted lists: rows by the nearest of some centroids, so that a search looks at a part of them alone.

Their k-means needs the extra `faiss`: pip install 'dploss[faiss]'. Sivic & Zisserman, Video Google, 2003; Jegou et al.,
Product quantization for nearest neighbor search, 2011.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from dploss.codes.code import checked
from dploss.errors import InputError

# Products that are held at once: 16 MB.
_PRODUCTS = 2**22


class InvertedLists:
    """Which rows lie nearest to which centroid. Rows are stored list by list.

    Args:
        centroids: (nlist, p) float32.
        lists: (N,) int32, the list of each stored row, from the lowest to the highest.
        ids: (N,) int32 of the stored rows, which they were given when they were added.
    """

    def __init__(self, centroids: np.ndarray, lists: np.ndarray, ids: np.ndarray) -> None:
        self.centroids, self.lists, self.ids = centroids, lists, ids
        self._columns = torch.from_numpy(centroids).T
        self._squared = self._columns.square().sum(dim=0)
        self._starts = np.searchsorted(lists, np.arange(len(centroids) + 1))

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
        return cls(kmeans.centroids, np.empty(0, np.int32), np.empty(0, np.int32))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_rows: int, width: int) -> "InvertedLists":
        """The lists that `arrays` was called on, of n_rows rows and centroids of `width` dimensions.

        Raises:
            KeyError, ValueError: arrays that are missing, or of other shapes or values than those of lists.
        """
        centroids = checked(arrays, "centroids", (None, width), np.float32)
        lists = checked(arrays, "lists", (n_rows,), np.int32)
        if "ids" not in arrays:
            raise ValueError("an older version saved it with lists; add its codes to a new one")
        ids = checked(arrays, "ids", (n_rows,), np.int32)
        if n_rows and not 0 <= lists[0] <= lists[-1] < len(centroids):
            raise ValueError("it has rows in lists that are not there")
        if (np.diff(lists) < 0).any() or not np.array_equal(np.sort(ids), np.arange(n_rows)):
            raise ValueError("its rows are not in the order of its lists")
        return cls(centroids, lists, ids)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file of an index has of it, by name."""
        return {"centroids": self.centroids, "lists": self.lists, "ids": self.ids}

    def added(self, lists: np.ndarray) -> tuple["InvertedLists", np.ndarray]:
        """With more rows, of the next ids.

        Args:
            lists: (n,) int32 of these rows.

        Returns:
            All N + n rows in lists, and the (N + n,) order to store them in, of those so far followed by the new ones.
        """
        ids = np.arange(len(self.ids), len(self.ids) + len(lists), dtype=np.int32)
        lists, ids = np.concatenate([self.lists, lists]), np.concatenate([self.ids, ids])
        order = np.argsort(lists, kind="stable")
        return InvertedLists(self.centroids, lists[order], ids[order]), order

    def probes(self, points: np.ndarray, nprobe: int, metric: str = "euclidean") -> np.ndarray:
        """The lists of the nearest centroids of some points.

        Args:
            points: (n, p) float32.
            nprobe: lists for each; all if there are fewer.
            metric: "euclidean", or for queries "ip": the largest inner product is nearest.

        Returns:
            (n, nprobe) int64.
        """
        nprobe, beta = min(nprobe, len(self.centroids)), 1 if metric == "euclidean" else 0
        nearest = []
        # By torch: FAISS's threads would contend with those of the compiled loops.
        for block in torch.from_numpy(points).split(max(1, _PRODUCTS // len(self.centroids))):
            distances = torch.addmm(self._squared, block, self._columns, beta=beta, alpha=-2)
            nearest.append(distances.topk(nprobe, largest=False, sorted=False).indices)
        return torch.cat(nearest).numpy()

    def visits(self, queries: np.ndarray, nprobe: int, metric: str) -> Iterator[np.ndarray]:
        """Which queries have to look at which rows, some lists at a time.

        Args:
            queries: (m, p) float32.
            nprobe: lists that each looks at.
            metric: see `probes`.

        Yields:
            (v, 3) int64 visits: a query, and the bounds of the list that it looks at among the stored rows; ordered by
            these. No list is empty.
        """
        probes = self.probes(queries, nprobe, metric)
        order = np.argsort(probes, axis=None, kind="stable")
        numbers = probes.ravel()[order]
        visits = np.column_stack([order // probes.shape[1], self._starts[numbers], self._starts[numbers + 1]])
        visits = visits[visits[:, 1] < visits[:, 2]]
        groups = np.flatnonzero(np.diff(np.cumsum(visits[:, 2] - visits[:, 1]) // _PRODUCTS)) + 1
        yield from np.split(visits, groups) if len(visits) else []

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.centroids.nbytes + self.lists.nbytes + self.ids.nbytes + self._starts.nbytes


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError("nlist needs faiss, which is not installed: pip install 'dploss[faiss]'") from error
    return faiss
