"""RowScale: a byte for every row that restores what its code lost of its norm."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dploss.codes.code import checked
from dploss.codes.neighbours import asking, keeping_most

_LEVELS = 256
_POWERS = (0.35, 0.5, 0.7, 1.0, 0.0)


@dataclass(frozen=True)
class RowScale:
    """The scale s = |y|^2 / <y, y^> of a row y that was coded as y^, in a byte, and what it is used for.

    The stored row is s^power y^. Its squared norm, which distances need and no byte is spent on, is predicted from s
    and |y^|^2 by least squares: a code shortens rows, and s says by how much.

    Attributes:
        limits: (2,) float64, the logarithms of the least and the largest scale.
        power: how far the row is scaled, 0 to 1.
        norm_weights: (5,) float64, of `_features`.
    """

    limits: np.ndarray
    power: float
    norm_weights: np.ndarray

    @classmethod
    def fit(cls, whole: np.ndarray, rows: np.ndarray, decoded: np.ndarray, metric: str = "euclidean") -> "RowScale":
        """Fit to training rows; the power is the one that keeps most neighbours among them, 1 for inner products.

        With 1 the product of a row with itself is right, which keeps most neighbours of queries: measured.

        Args:
            whole: (n, d) float32, centred rows.
            rows: (n, p) float32, what of them was coded: their coordinates along p axes.
            decoded: (n, p) float32, from their codes.
            metric: see `Code`.
        """
        norms = np.square(whole).sum(axis=1)
        logs = np.log(_scales(rows, norms, decoded))
        first = cls(np.array([logs.min(), max(logs.max(), logs.min() + 1e-6)]), 0.0, np.zeros(5))
        return first.with_scales(first.read(first.byte(rows, norms, decoded)), whole, rows, decoded, metric)

    def with_scales(
        self,
        scales: np.ndarray,
        whole: np.ndarray,
        rows: np.ndarray,
        decoded: np.ndarray,
        metric: str = "euclidean",
    ) -> "RowScale":
        """Power and norms fitted anew; the bytes stay what they are.

        Args:
            scales: (n,) float32 of the rows, which may be those of another decoder of the same codes.
            whole: see `fit`.
            rows: see `fit`.
            decoded: see `fit`.
            metric: see `fit`.
        """
        features = _features(scales, np.square(decoded).sum(axis=1))
        weights = np.linalg.lstsq(features, np.square(whole).sum(axis=1, dtype=np.float64), rcond=None)[0]
        if metric == "ip":
            return RowScale(self.limits, 1.0, weights)
        products, biases = rows[asking(len(rows))] @ decoded.T, features @ weights
        power = keeping_most(_POWERS, whole, lambda power: biases - 2 * products * scales**power)
        return RowScale(self.limits, power, weights)

    def byte(self, rows: np.ndarray, norms: np.ndarray, decoded: np.ndarray) -> np.ndarray:
        """(n,) uint8: the scales of (n, p) rows with (n,) squared norms, those of all their d dimensions."""
        low, high = self.limits
        place = (np.log(_scales(rows, norms, decoded)) - low) / (high - low)
        return np.rint(place.clip(0, 1) * (_LEVELS - 1)).astype(np.uint8)

    def read(self, byte: np.ndarray) -> np.ndarray:
        """(n,) uint8 -> (n,) float32 scales."""
        low, high = self.limits
        return np.exp(np.linspace(low, high, _LEVELS))[byte].astype(np.float32)

    def biases(self, scales: np.ndarray, decoded_norms: np.ndarray) -> np.ndarray:
        """(n,) float32: the squared norms of rows, from their scales and the squared norms of what was decoded."""
        return (_features(scales, decoded_norms) @ self.norm_weights).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by name."""
        return {"limits": self.limits, "power": np.array(self.power), "norm_weights": self.norm_weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "RowScale":
        """The RowScale that `arrays` was called on.

        Raises:
            KeyError, ValueError: see `checked`.
        """
        limits = checked(arrays, "limits", (2,), np.float64)
        power = float(checked(arrays, "power", (), np.float64))
        if not -80 < limits[0] < limits[1] < 80 or not 0 <= power <= 1:
            raise ValueError(f"limits are {limits}, power is {power}")
        return cls(limits, power, checked(arrays, "norm_weights", (5,), np.float64))


def _scales(rows: np.ndarray, norms: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """|y|^2 / <y, y^>, 1 of a row that is 0 or whose code points away from it."""
    products = np.einsum("ij,ij->i", rows, decoded).astype(np.float64)
    usable = (products > 1e-3 * norms) & (norms > 0)
    return np.divide(norms, products, out=np.ones(len(rows)), where=usable)


def _features(scales: np.ndarray, decoded_norms: np.ndarray) -> np.ndarray:
    """(n, 5) float64. |y|^2 is s <y, y^>, and <y, y^> about |y^|^2: the second feature would be it."""
    s, norms = scales.astype(np.float64), decoded_norms.astype(np.float64)
    return np.stack([np.ones_like(s), s * norms, norms, s, s * s * norms], axis=1)
