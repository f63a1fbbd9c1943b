"""Rotation: latents as coordinates along their own principal axes, in units of their scale; codes along them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dploss.codes.code import Code, check_codes, checked, in_blocks

# In a checkpoint of a code for inner products alone.
_BY_INNER_PRODUCT = "by_inner_product"


@dataclass(frozen=True)
class Rotation:
    """Centre, rotate and divide by the scale.

    Attributes:
        mean: (d,) float32 mean of the latents.
        axes: (d, p) float32 orthonormal columns; with p > d, a tight frame, orthonormal rows.
        scale: standard deviation over all centred coordinates, above 0.
        metric: how queries are compared with rows, see `Code`.
    """

    mean: np.ndarray
    axes: np.ndarray
    scale: float
    metric: str = "euclidean"

    @classmethod
    def fit(cls, latents: np.ndarray, metric: str = "euclidean") -> tuple["Rotation", np.ndarray]:
        """The principal axes, most variance first.

        Args:
            latents: (n, d) float32.
            metric: see `Code`.

        Returns:
            The rotation, and the (d,) variances along its axes in units of its scale.
        """
        mean = latents.mean(axis=0, dtype=np.float64)
        centred = latents - mean
        values, axes = np.linalg.eigh(centred.T @ centred / len(latents))
        values, axes = values[::-1].clip(min=0), axes[:, ::-1]
        # The sign of an axis is arbitrary: its largest entry is made positive, so that fits are reproducible.
        largest = axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))]
        axes = axes * np.where(largest < 0, -1, 1)
        scale = float(np.sqrt(values.mean())) or 1.0
        axes = np.ascontiguousarray(axes, np.float32)
        return cls(mean.astype(np.float32), axes, scale, metric), values / scale**2

    def keep(self, dims: np.ndarray) -> "Rotation":
        """The same with some of the axes."""
        return self.turned(np.ascontiguousarray(self.axes[:, dims]))

    def turned(self, axes: np.ndarray) -> "Rotation":
        """The same to other axes, (d, p) float32."""
        return replace(self, axes=axes)

    def centre(self, latents: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, d) float32 in units of the scale, about the mean."""
        # Contiguous, for sums along a row round by how it lies in memory.
        return np.ascontiguousarray((latents - self.mean) / np.float32(self.scale), np.float32)

    def centre_queries(self, queries: np.ndarray) -> np.ndarray:
        """(n, d) queries -> (n, d) float32 in units of the scale; about the mean for distances alone.

        Rows may be moved under inner products, which changes all scores of a query alike, but queries may not.
        """
        return self.centre(queries) if self.metric == "euclidean" else queries / np.float32(self.scale)

    def rotate(self, centred: np.ndarray) -> np.ndarray:
        """What `centre` returned -> (n, p) float32."""
        return in_blocks(centred, self.axes)

    def from_axes(self, rotated: np.ndarray, filled: bool = True) -> np.ndarray:
        """(n, p) -> (n, d) float32, what `centre` gives of rows that lie in the axes; `filled` as in `in_blocks`."""
        return in_blocks(rotated, self.axes.T, filled)

    def back(self, rotated: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, d) float32 latents."""
        return self.from_axes(rotated) * np.float32(self.scale) + self.mean

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by name."""
        arrays = {"mean": self.mean, "axes": self.axes, "scale": np.array(self.scale)}
        return arrays if self.metric == "euclidean" else {**arrays, _BY_INNER_PRODUCT: np.array(True)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Rotation":
        """The rotation that `arrays` was called on.

        Raises:
            KeyError, ValueError: see `checked`.
        """
        mean = checked(arrays, "mean", (None,), np.float32)
        axes = checked(arrays, "axes", (len(mean), None), np.float32)
        scale = float(checked(arrays, "scale", (), np.float64))
        if not 0 < scale < np.inf or not axes.size:
            raise ValueError(f"scale is {scale}, {axes.shape[1]} axes of {len(mean)} dimensions")
        # Older checkpoints and codes for distances have none.
        by_product = _BY_INNER_PRODUCT in arrays and checked(arrays, _BY_INNER_PRODUCT, (), np.bool_)
        return cls(mean, axes, scale, "ip" if by_product else "euclidean")


class RotatedCode(Code):
    """A code whose points have a coordinate along each axis of a rotation."""

    rotation: Rotation

    @property
    def metric(self) -> str:
        """See `Code`."""
        return self.rotation.metric

    def points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Code.points`."""
        check_codes(codes, self.bytes_per_vector)
        points, biases = self._points(codes)
        return points, biases if self.metric == "euclidean" else np.zeros_like(biases)

    @abstractmethod
    def _points(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points, and their biases for distances."""

    def project(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.project`."""
        # Not by blocks, as rows that are stored: a single query would take the time of a block.
        return self.rotation.centre_queries(queries) @ self.rotation.axes

    def constants(self, queries: np.ndarray) -> np.ndarray:
        """See `Code.constants`."""
        centred = self.rotation.centre_queries(queries)
        if self.metric == "euclidean":
            return np.square(centred).sum(axis=1, dtype=np.float64)
        return -2 * (centred.astype(np.float64) @ (self.rotation.mean.astype(np.float64) / self.unit))

    @property
    def unit(self) -> float:
        """See `Code.unit`."""
        return self.rotation.scale

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Code.decode`."""
        return self.rotation.back(self.points(codes)[0])
