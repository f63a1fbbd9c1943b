"""SecondOrder: what a code lost of a row, predicted from the products of the coordinates that it stored.

Coordinates along principal axes are uncorrelated, but rows of embeddings are no Gaussian: products of two of them
predict a part of what was lost, also along axes without bits. Ridge regression: Hoerl & Kennard 1970; of reduced rank:
Izenman 1975.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from dploss.codes.code import BLOCK, checked, in_blocks

# Measured: more gain little, and cost the square of their number.
_MOST_AXES = 92
# Measured: as good as all, and a third of the time with 768 dimensions.
_MOST_OUTPUTS = 256
_ROWS_OF_PRODUCT = 2
_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 8


@dataclass(frozen=True)
class SecondOrder:
    """A linear map of the products of the coordinates with most variance, and 1.

    Attributes:
        axes: (k,) int64, whose coordinates are multiplied.
        unit: of the coordinates, above 0.
        weights: (k (k + 1) / 2 + 1, r) float32.
        outputs: (r, d) float32, orthonormal rows.
    """

    axes: np.ndarray
    unit: float
    weights: np.ndarray
    outputs: np.ndarray

    @classmethod
    def fit(
        cls, decoded: np.ndarray, lost: np.ndarray, ridge: float | None = None, most_axes: int = _MOST_AXES
    ) -> "Fitted":
        """Ridge regression on all rows, and on all but those of each fold.

        Args:
            decoded: (n, p) float32, coordinates from the codes of training rows.
            lost: (n, d) float32, what the rows differ from these by.
            ridge: its strength; None: the one that predicts most of a fold of the rows from the others.
            most_axes: k at most; of fewer rows less, so that no more than every two have a product.
        """
        variances = decoded.var(axis=0)
        axes = np.argsort(-variances, kind="stable")[: min(most_axes, _axes_for(len(decoded)))]
        unit = float(np.sqrt(variances.max())) or 1.0
        untrained = cls(axes, unit, np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))
        squares, products = untrained._moments(decoded, lost)
        all_squares, all_products = squares.sum(dim=0), products.sum(dim=0)

        def solved(ridge: float, left_out: int | None = None) -> torch.Tensor:
            square = all_squares if left_out is None else all_squares - squares[left_out]
            product = all_products if left_out is None else all_products - products[left_out]
            added = (ridge * square.diagonal().mean()).clamp(min=1e-12)
            return torch.cholesky_solve(product, torch.linalg.cholesky(square + added * torch.eye(len(square))))

        def error(ridge: float) -> float:
            found = solved(ridge, 0)
            return float((found * (squares[0] @ found - 2 * products[0])).sum())

        ridge = ridge or min(_RIDGES, key=error)
        fitted = solved(ridge)
        spread = (fitted.T @ (all_squares @ fitted)).double()
        # The directions in which it predicts most, first.
        outputs = torch.linalg.eigh(spread)[1].flip(1)[:, :_MOST_OUTPUTS].float()

        def reduced(weights: torch.Tensor) -> "SecondOrder":
            return replace(untrained, weights=(weights @ outputs).numpy(), outputs=outputs.T.contiguous().numpy())

        return Fitted(reduced(fitted), [reduced(solved(ridge, fold)) for fold in range(FOLDS)], ridge)

    def predict(self, decoded: np.ndarray, filled: bool = True) -> np.ndarray:
        """(n, p) float32 coordinates -> (n, d) float32; `filled` as in `in_blocks`."""
        blocks = (decoded[start : start + BLOCK] for start in range(0, max(len(decoded), 1), BLOCK))
        reduced = np.concatenate([in_blocks(self._features(block), self.weights, filled) for block in blocks])
        return in_blocks(reduced, self.outputs, filled)

    def gradient(self, decoded: np.ndarray, lost: np.ndarray) -> np.ndarray:
        """(n, p) float32: derivative of the inner products of (n, d) `lost` with what is predicted, by `decoded`."""
        gradient = np.zeros_like(decoded)
        rows, columns = np.triu_indices(len(self.axes))
        for start in range(0, len(decoded), BLOCK):
            block = slice(start, start + BLOCK)
            of_products = in_blocks(in_blocks(lost[block], self.outputs.T), self.weights[:-1].T)
            symmetric = np.zeros((len(of_products), len(self.axes), len(self.axes)), np.float32)
            symmetric[:, rows, columns] = of_products
            symmetric += symmetric.transpose(0, 2, 1)
            own = decoded[block][:, self.axes] / np.float32(self.unit)
            # Not as a matrix product, whose last digits may depend on where in the block a row is.
            gradient[block, self.axes] = (symmetric * own[:, None]).sum(axis=2) / np.float32(self.unit)
        return gradient

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of, by name."""
        return {
            "product_axes": self.axes,
            "product_unit": np.array(self.unit),
            "product_weights": self.weights,
            "product_outputs": self.outputs,
        }

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
        outputs = checked(arrays, "product_outputs", (None, dim), np.float32)
        size = len(axes) * (len(axes) + 1) // 2 + 1
        return cls(axes, unit, checked(arrays, "product_weights", (size, len(outputs)), np.float32), outputs)

    def _moments(self, decoded: np.ndarray, lost: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each fold, the products of the features with each other and with what was lost."""
        size = len(self.axes) * (len(self.axes) + 1) // 2 + 1
        squares, products = torch.zeros(FOLDS, size, size), torch.zeros(FOLDS, size, lost.shape[1])
        for fold, own in enumerate(folds_of(len(decoded))):
            for start in range(0, len(own), BLOCK):
                block = own[start : start + BLOCK]
                features = torch.from_numpy(self._features(decoded[block]))
                squares[fold].addmm_(features.T, features)
                products[fold].addmm_(features.T, torch.from_numpy(lost[block]))
        return squares, products

    def _features(self, decoded: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, k (k + 1) / 2 + 1) float32."""
        own = decoded[:, self.axes] / np.float32(self.unit)
        products = [own[:, place, None] * own[:, place:] for place in range(len(self.axes))]
        return np.concatenate([*products, np.ones((len(own), 1), np.float32)], axis=1)


class Fitted(NamedTuple):
    """What `SecondOrder.fit` returns.

    Attributes:
        whole: of all rows.
        of_others: for each fold of `folds_of`, the one of all rows but these.
        ridge: strength of the regression.
    """

    whole: SecondOrder
    of_others: list[SecondOrder]
    ridge: float


def folds_of(n_rows: int) -> list[np.ndarray]:
    """The row numbers of each fold."""
    return [np.arange(fold, n_rows, FOLDS) for fold in range(FOLDS)]


def _axes_for(n_rows: int) -> int:
    """As many as have a product for every two rows, at least one."""
    return max(1, int(np.sqrt(2 * n_rows / _ROWS_OF_PRODUCT)))
