"""The product quantiser that a stock FAISS index carries: groups of principal axes, 256 centroids each, and the norm.

Jegou, Douze & Schmid, Product quantization for nearest neighbor search, 2011; axes in groups of equal bits as in the
parametric solution of Ge et al., Optimized product quantization, 2013.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dploss.codes.allocation import allocate_bits
from dploss.codes.code import check_codes, check_latents, checked
from dploss.codes.neighbours import asking, keeping_most
from dploss.codes.rotation import RotatedCode, Rotation
from dploss.codes.scalar import lloyd_max_tables
from dploss.data.split import evenly_spaced
from dploss.errors import InputError

if TYPE_CHECKING:
    import faiss

_BITS, _CENTROIDS = 8, 256
_ITERATIONS, _FITTED_ROWS = 16, 40_000
_CHOOSING_ITERATIONS = 4
_SHARES = (1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.0)


class ProductCode(RotatedCode):
    """A byte for each group of axes, and a last one for the squared length of the whole row.

    For inner products, which no length is needed for, every byte is a group's.

    Args:
        rotation: to the axes of all groups, one group after the other.
        sizes: (g,) int64, how many axes each group has.
        centroids: (p, 256) float32, along each axis.
        excesses: (256,) float32, rising: by how much the squared length of a row is above that of its centroids; 0 for
            inner products.
        norm_share: how much of that counts, 0 to 1. Centroids are means of rows, so products with queries are too
            small, and rows that lost much would seem too far.
    """

    name: ClassVar[str] = "pq"

    def __init__(
        self,
        rotation: Rotation,
        sizes: np.ndarray,
        centroids: np.ndarray,
        excesses: np.ndarray,
        norm_share: float = 1.0,
    ) -> None:
        self.rotation, self.sizes, self.centroids, self.excesses = rotation, sizes, centroids, excesses
        self.norm_share = norm_share
        self.dim, self.bytes_per_vector = len(rotation.mean), len(sizes) + (rotation.metric == "euclidean")
        self._group_of = np.repeat(np.arange(len(sizes)), sizes)

    @classmethod
    def fit(
        cls, latents: np.ndarray, n_bytes: int, metric: str = "euclidean", queries: np.ndarray | None = None
    ) -> "ProductCode":
        """Fit to latents of training rows, in seconds: k-means that starts at the product of scalar cells.

        Axes without bits join the groups of the others, or are left out. That, and the share of the norm, are chosen by
        the neighbours that rows keep with centroids of a third that they are not in: on rows that centroids were fitted
        to, the more axes the better. For inner products the least squared error chooses.

        Args:
            latents: (n, d) float32.
            n_bytes: stored for each row, 2 to d + 1, or for inner products to d.
            metric: see `Code`.
            queries: not used.

        Raises:
            ValueError: n_bytes outside its range, or latents that are none.
        """
        check_latents(latents, latents.shape[-1])
        principal, variances = Rotation.fit(latents, metric)
        n_groups = n_bytes - (metric == "euclidean")
        bits = allocate_bits(variances, _BITS * n_groups, lloyd_max_tables()[1].tolist())
        groups = _groups(bits, n_groups)
        rest = np.flatnonzero(bits == 0)
        with_rest = [np.append(group, rest[i :: len(groups)]) for i, group in enumerate(groups)]
        centred = principal.centre(latents[evenly_spaced(len(latents), _FITTED_ROWS)])
        fitted, choosing = centred[::3], np.delete(centred, np.s_[::3], axis=0) if len(centred) > 1 else centred
        choices = []
        for some in (groups, with_rest) if len(rest) else (groups,):
            code = cls._start(principal, variances, some)
            code._move_centroids(fitted, _CHOOSING_ITERATIONS)
            choices.append(code)
        if metric == "ip":
            code = min(choices, key=lambda code: code._squared_error(choosing))
            code._move_centroids(centred, _ITERATIONS)
            return code
        scores = [code._scores(choosing) for code in choices]
        settings = [(number, share) for number in range(len(choices)) for share in _SHARES]
        chosen, share = keeping_most(settings, choosing, lambda setting: scores[setting[0]](setting[1]))
        code = choices[chosen]
        code.norm_share = share
        code._move_centroids(centred, _ITERATIONS)
        _, excesses = code._coded(centred)
        code.excesses = np.quantile(excesses, (np.arange(_CENTROIDS) + 0.5) / _CENTROIDS).astype(np.float32)
        return code

    @classmethod
    def _start(cls, principal: Rotation, variances: np.ndarray, groups: list[np.ndarray]) -> "ProductCode":
        """Groups of axes whose centroids are the products of their scalar cells."""
        start = np.concatenate([_cells(variances[group]) for group in groups]).astype(np.float32)
        sizes = np.array([len(group) for group in groups])
        return cls(principal.keep(np.concatenate(groups)), sizes, start, np.zeros(_CENTROIDS, np.float32))

    def _move_centroids(self, centred: np.ndarray, iterations: int) -> None:
        """Iterations of k-means on (n, d) rows, from `Rotation.centre`."""
        rows = self.rotation.rotate(centred)
        for _ in range(iterations):
            self.centroids = _means(rows, self._nearest(rows)[:, self._group_of], self.centroids)

    def _scores(self, centred: np.ndarray) -> Callable[[float], np.ndarray]:
        """From a share of the norm, the scores of (n, d) rows for those of them that ask."""
        nearest, excesses = self._coded(centred)
        points = self._centres(nearest)
        norms = np.square(points).sum(axis=1)
        products = self.rotation.rotate(centred[asking(len(centred))]) @ points.T
        return lambda share: norms + share * excesses - 2 * products

    def _squared_error(self, centred: np.ndarray) -> float:
        """Of (n, d) rows, along all their d axes."""
        points = self._centres(self._nearest(self.rotation.rotate(centred)))
        return float(np.square(centred - self.rotation.from_axes(points)).sum())

    def _coded(self, centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, g) uint8 numbers of centroids of (n, d) rows, and (n,) what they lack of the squared lengths."""
        nearest = self._nearest(self.rotation.rotate(centred))
        return nearest, np.square(centred).sum(axis=1) - np.square(self._centres(nearest)).sum(axis=1)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) latents -> (n, bytes_per_vector) uint8 codes.

        Raises:
            ValueError: latents of another shape, or not finite.
        """
        check_latents(latents, self.dim)
        nearest, excesses = self._coded(self.rotation.centre(latents))
        if self.metric == "ip":
            return nearest
        last = np.searchsorted((self.excesses[1:] + self.excesses[:-1]) / 2, excesses)
        return np.concatenate([nearest, last.astype(np.uint8)[:, None]], axis=1)

    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A point has a coordinate for each axis of a group."""
        points = self._centres(codes)
        return points, np.square(points).sum(axis=1) + self._counted[codes[:, -1]]

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Code.arrays`."""
        own = {"sizes": self.sizes, "centroids": self.centroids, "excesses": self.excesses}
        return {**self.rotation.arrays(), **own, "norm_share": np.array(self.norm_share)}

    @classmethod
    def from_arrays(cls, n_bytes: int, arrays: Mapping[str, np.ndarray]) -> "ProductCode":
        """See `Code.from_arrays`."""
        rotation = Rotation.from_arrays(arrays)
        n_axes = rotation.axes.shape[1]
        sizes = checked(arrays, "sizes", (n_bytes - (rotation.metric == "euclidean"),), np.int64)
        # Each by itself, too: a sum can overflow.
        if not len(sizes) or sizes.min() < 1 or sizes.max() > n_axes or sizes.sum() != n_axes:
            raise ValueError(f"groups of {sizes} axes, not of {n_axes} in all")
        centroids = checked(arrays, "centroids", (n_axes, _CENTROIDS), np.float32)
        excesses = checked(arrays, "excesses", (_CENTROIDS,), np.float32)
        if (np.diff(excesses) < 0).any():
            raise ValueError("excesses do not rise")
        # Checkpoints of older versions have none: all of the norm counted.
        share = float(checked(arrays, "norm_share", (), np.float64)) if "norm_share" in arrays else 1.0
        if not 0 <= share <= 1:
            raise ValueError(f"norm_share is {share}")
        return cls(rotation, sizes, centroids, excesses, share)

    def to_faiss(self, codes: np.ndarray | None = None) -> "faiss.IndexPreTransform":
        """An index of stock FAISS, for faiss.write_index: LinearTransform, then IndexPQ, of latents by L2.

        For inner products it is one of these, to be searched by latents of queries; what follows is of L2.

        The last sub-space has the coordinate sqrt(excess - least excess), of the share that counts, which is 0 for a
        query, so that L2 distances of the others become estimates of those of whole rows. It is not linear: rows that
        FAISS adds by itself have 0 as their last byte, are found as by plain PQ, and seem a little nearer than rows of
        the same index whose codes `encode` made.

        Args:
            codes: (n, bytes_per_vector) uint8 of rows that the index is to have; None for an empty one.

        Raises:
            InputError: FAISS is not installed.
        """
        try:
            import faiss
        except ImportError as error:
            raise InputError("the FAISS index of a code needs FAISS: pip install 'dploss[faiss]'") from error
        width, n_groups = int(self.sizes.max()), self.bytes_per_vector
        places = self._group_of * width + np.concatenate([np.arange(size) for size in self.sizes])
        matrix, bias = np.zeros((n_groups * width, self.dim), np.float32), np.zeros(n_groups * width, np.float32)
        matrix[places] = self.rotation.axes.T / np.float32(self.rotation.scale)
        mean = (self.rotation.mean / np.float32(self.rotation.scale)) @ self.rotation.axes
        if self.metric == "euclidean":
            bias[places] = -mean
        transform = faiss.LinearTransform(self.dim, n_groups * width, True)
        faiss.copy_array_to_vector(matrix.ravel(), transform.A)
        faiss.copy_array_to_vector(bias, transform.b)
        transform.is_trained = True
        centroids = np.zeros((n_groups * width, _CENTROIDS), np.float32)
        if self.metric == "euclidean":
            centroids[places] = self.centroids
            centroids[-width] = np.sqrt(self._counted - self._counted[0])
        else:
            # Queries are not centred, and FAISS has one transform for both.
            centroids[places] = self.centroids + mean[:, None]
        compared = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        quantizer = faiss.IndexPQ(n_groups * width, n_groups, _BITS, compared)
        by_group = centroids.reshape(n_groups, width, _CENTROIDS).transpose(0, 2, 1)
        faiss.copy_array_to_vector(by_group.ravel(), quantizer.pq.centroids)
        quantizer.is_trained = True
        index = faiss.IndexPreTransform(transform, quantizer)
        if codes is not None:
            check_codes(codes, self.bytes_per_vector)
            faiss.copy_array_to_vector(codes.ravel(), quantizer.codes)
            index.ntotal = quantizer.ntotal = len(codes)
        return index

    @property
    def _counted(self) -> np.ndarray:
        """(256,) float32, what each value of the last byte adds to a squared length."""
        return np.float32(self.norm_share) * self.excesses

    def _nearest(self, rows: np.ndarray) -> np.ndarray:
        """(n, p) float32 coordinates -> (n, g) uint8 numbers of centroids."""
        # Imported late: numba takes a second to import.
        from dploss.codes.pq_kernels import nearest_centroids

        return nearest_centroids(rows, np.append(0, np.cumsum(self.sizes)), self.centroids)

    def _centres(self, codes: np.ndarray) -> np.ndarray:
        """(n, at least g) uint8 numbers of centroids -> their (n, p) float32 coordinates."""
        return self.centroids[np.arange(len(self.centroids)), codes[:, self._group_of]]


def _groups(bits: np.ndarray, n_groups: int) -> list[np.ndarray]:
    """Axes whose bits add up to 8, or nearly: best fit, most bits first.

    None is empty: an axis goes to a group without room only when no other has any, and all bits are 8 * n_groups.
    """
    room, groups = np.full(n_groups, _BITS), [[] for _ in range(n_groups)]  # type: tuple[np.ndarray, list[list[int]]]
    for axis in np.argsort(-bits, kind="stable")[: np.count_nonzero(bits)]:
        fitting = np.flatnonzero(room >= bits[axis])
        group = fitting[np.argmin(room[fitting])] if len(fitting) else np.argmax(room)
        groups[group].append(axis)
        room[group] -= bits[axis]
    return [np.array(group) for group in groups]


def _cells(variances: np.ndarray) -> np.ndarray:
    """(k,) variances of axes -> (k, 256) centroids: the product of their scalar cells, of 8 bits together."""
    tables, errors = lloyd_max_tables()
    bits = allocate_bits(variances, _BITS, errors.tolist())
    own = np.flatnonzero(bits)
    levels = [tables[bits[axis] - 1, : 1 << bits[axis]] * np.sqrt(variances[axis]) for axis in own]
    centroids = np.zeros((len(bits), _CENTROIDS))
    centroids[own] = [one.ravel() for one in np.meshgrid(*levels, indexing="ij")]
    return centroids


def _means(rows: np.ndarray, nearest: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, p) rows and the numbers of their centroids -> (p, 256) float32 means; a centroid without rows stays."""
    means = centroids.copy()
    for axis in range(len(means)):
        counts = np.bincount(nearest[:, axis], minlength=_CENTROIDS)
        sums = np.bincount(nearest[:, axis], rows[:, axis], _CENTROIDS)
        means[axis] = np.divide(sums, counts, out=means[axis].astype(np.float64), where=counts > 0)
    return means
