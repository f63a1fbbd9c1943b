"""SecondOrder: what a code lost of a row, predicted from the products of the coordinates that it stored.

Coordinates along principal axes are uncorrelated, but rows of embeddings are no Gaussian: products of two of them
predict a part of what was lost, also along axes without bits. Ridge regression: Hoerl & Kennard 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dploss.codes.code import BLOCK, checked, in_blocks

# Measured: more gain little, and cost the square of their number.
_MOST_AXES = 92
_ROWS_OF_PRODUCT = 2
_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_CHOOSING = 10


@dataclass(frozen=True)
class SecondOrder:
    """A linear map of the products of the coordinates with most variance, and 1.

    Attributes:
        axes: (k,) int64, whose coordinates are multiplied.
        unit: of the coordinates, above 0.
        weights: (k (k + 1) / 2 + 1, d) float32.
    """

    axes: np.ndarray
    unit: float
    weights: np.ndarray

    @classmethod
    def fit(cls, decoded: np.ndarray, lost: np.ndarray, most_axes: int = _MOST_AXES) -> "SecondOrder":
        """Ridge regression; its strength is the one that predicts most of a tenth of the rows from the others.

        Args:
            decoded: (n, p) float32, coordinates from the codes of training rows.
            lost: (n, d) float32, what the rows differ from these by.
            most_axes: k at most; of fewer rows less, so that no more than every two have a product.
        """
        variances = decoded.var(axis=0)
        axes = np.argsort(-variances, kind="stable")[: min(most_axes, _axes_for(len(decoded)))]
        unit = float(np.sqrt(variances.max())) or 1.0
        untrained = cls(axes, unit, np.empty((0, 0), np.float32))
        size = len(axes) * (len(axes) + 1) // 2 + 1
        # Of the rows that weights are fitted to, and of those that choose the ridge.
        squares, products = torch.zeros(2, size, size), torch.zeros(2, size, lost.shape[1])
        for start in range(0, len(decoded), BLOCK):
            features = torch.from_numpy(untrained._features(decoded[start : start + BLOCK]))
            targets = torch.from_numpy(lost[start : start + BLOCK])
            chooses = torch.arange(start, start + len(features)) % _CHOOSING == 0
            for part, rows in enumerate((~chooses, chooses)):
                squares[part].addmm_(features[rows].T, features[rows])
                products[part].addmm_(features[rows].T, targets[rows])

        def weights(squares: torch.Tensor, products: torch.Tensor, ridge: float) -> torch.Tensor:
            added = (ridge * squares.diagonal().mean()).clamp(min=1e-12)
            return torch.cholesky_solve(products, torch.linalg.cholesky(squares + added * torch.eye(size)))

        def error(ridge: float) -> float:
            found = weights(squares[0], products[0], ridge)
            return float((found * (squares[1] @ found - 2 * products[1])).sum())

        ridge = min(_RIDGES, key=error)
        return cls(axes, unit, weights(squares.sum(dim=0), products.sum(dim=0), ridge).numpy())

    def predict(self, decoded: np.ndarray, filled: bool = True) -> np.ndarray:
        """(n, p) float32 coordinates -> (n, d) float32; `filled` as in `in_blocks`."""
        blocks = (decoded[start : start + BLOCK] for start in range(0, max(len(decoded), 1), BLOCK))
        return np.concatenate([in_blocks(self._features(block), self.weights, filled) for block in blocks])

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by name."""
        return {"product_axes": self.axes, "product_unit": np.array(self.unit), "product_weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_axes: int, dim: int) -> "SecondOrder":
        """The one that `arrays` was called on.

        Args:
            arrays: among others.
            n_axes: p.
            dim: d.

        Raises:
            KeyError, ValueError: see `checked`.
        """
        axes = checked(arrays, "product_axes", (None,), np.int64)
        unit = float(checked(arrays, "product_unit", (), np.float64))
        if not len(axes) or axes.min() < 0 or axes.max() >= n_axes or not unit > 0:
            raise ValueError(f"product_axes are {axes} of {n_axes}, product_unit is {unit}")
        size = len(axes) * (len(axes) + 1) // 2 + 1
        return cls(axes, unit, checked(arrays, "product_weights", (size, dim), np.float32))

    def _features(self, decoded: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, k (k + 1) / 2 + 1) float32."""
        own = decoded[:, self.axes] / np.float32(self.unit)
        products = [own[:, place, None] * own[:, place:] for place in range(len(self.axes))]
        return np.concatenate([*products, np.ones((len(own), 1), np.float32)], axis=1)


def _axes_for(n_rows: int) -> int:
    """As many as have a product for every two rows, at least one."""
    return max(1, int(np.sqrt(2 * n_rows / _ROWS_OF_PRODUCT)))
