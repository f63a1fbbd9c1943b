"""How far two samples of rows lie apart: norms, variance that principal components lose, spectrum and means.

What sampling alone makes of each figure is found by permutations: the rows of both samples together, split at random
again and again (Good 2005, "Permutation, Parametric, and Bootstrap Tests of Hypotheses").
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from dploss.models.pca import PCA

# Standard errors, or standard deviations over permutations: 997 of 1,000 samples stay within.
NOISE = 3.0
_PERMUTATIONS = 20
# Eigenvalues cost the most.
_SPECTRUM_ROWS = 1000
# Norms are compared to this share of their mean: rows that were stored as float16 are not rows that moved.
_NORM_DIGITS = 3
_NORMS = ("norm", "distance_from_mean")
_ORDER = [
    *(f"{name}_{what}" for name in _NORMS for what in ("average", "spread", "ks")),
    "variance_lost",
    "avoidable_loss",
    "distance_of_means",
]


@dataclass(frozen=True)
class Move:
    """A figure of the training's held-out rows and of as many new rows.

    Attributes:
        held_out: None where the figure is one of both samples together.
        new: of the new rows, or of both samples.
        sampling: what sampling alone makes of the difference (of the figure itself, where there is one of both).
        moved: whether it is more than that.
    """

    held_out: float | None
    new: float
    sampling: float
    moved: bool


def moves(held_out: np.ndarray, new: np.ndarray, pca: PCA) -> dict[str, Move]:
    """Compare two samples by every figure.

    Args:
        held_out: (n, D) float32.
        new: (n, D) float32.
        pca: of the training rows.

    Returns:
        By name: average and spread (standard deviation) of the norms and of the distances from the training's mean,
        each with Kolmogorov-Smirnov's statistic; variance_lost, the share of the squared distance from that mean that
        the principal components do not hold; avoidable_loss, the share of the sample's own variance that as many
        directions of its own hold more; distance_of_means, in standard deviations of the held-out rows.
    """
    both = _Both(np.concatenate([held_out, new]), pca)
    n = len(held_out)
    order = np.arange(2 * n)
    before, after = both.figures(order[:n]), both.figures(order[n:])
    together = both.apart(order[:n], order[n:])
    random = np.random.RandomState(0)
    drawn = [both.differences(*np.split(random.permutation(2 * n), 2)) for _ in range(_PERMUTATIONS)]
    by_chance = {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
    limits = {name: NOISE * float(np.square(by_chance[name]).mean() ** 0.5) for name in after}
    limits |= {name: float(by_chance[name].mean() + NOISE * by_chance[name].std(ddof=1)) for name in together}
    differences = {name: abs(after[name] - before[name]) for name in after} | together
    values = after | together
    return {
        name: Move(before.get(name), values[name], limits[name], differences[name] > limits[name])
        for name in sorted(values, key=_ORDER.index)
    }


class _Both:
    """The rows of two samples together, and their figures by indices."""

    def __init__(self, rows: np.ndarray, pca: PCA) -> None:
        centred = rows - pca.mean
        lengths = (_rounded(np.linalg.norm(one.astype(np.float64), axis=1)) for one in (rows, centred))
        self.norms = dict(zip(_NORMS, lengths, strict=True))
        self.projected = centred @ pca.components.T
        self.squares = np.square(centred, dtype=np.float64).sum(axis=1)
        self.held = np.square(self.projected, dtype=np.float64).sum(axis=1)
        self.centred = centred

    def figures(self, index: np.ndarray) -> dict[str, float]:
        """What one sample has by itself."""
        found: dict[str, float] = {}
        for name, values in self.norms.items():
            found |= {f"{name}_average": values[index].mean(), f"{name}_spread": values[index].std()}
        found["variance_lost"] = _share(self.squares[index].sum() - self.held[index].sum(), self.squares[index].sum())
        found["avoidable_loss"] = self._avoidable(index[:_SPECTRUM_ROWS])
        return {name: float(value) for name, value in found.items()}

    def apart(self, index: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """How far two samples lie apart."""
        found = {
            f"{name}_ks": float(ks_2samp(values[index], values[other], method="asymp").statistic)
            for name, values in self.norms.items()
        }
        means = [self.centred[one].mean(axis=0, dtype=np.float64) for one in (index, other)]
        variance = self.squares[index].mean() - np.square(means[0]).sum()
        found["distance_of_means"] = float(np.linalg.norm(means[1] - means[0]) / max(variance, 1e-30) ** 0.5)
        return found

    def differences(self, index: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """All figures of a split of the rows."""
        before, after = self.figures(index), self.figures(other)
        return {name: abs(after[name] - before[name]) for name in after} | self.apart(index, other)

    def _avoidable(self, index: np.ndarray) -> float:
        """Share of a sample's variance that its own best directions hold, less what the training's hold, 0..1."""
        rows = self.centred[index].astype(np.float64)
        rows -= rows.mean(axis=0)
        matrix = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
        directions = self.projected.shape[1]
        best = np.linalg.eigvalsh(matrix)[-directions:].sum()
        held = len(index) * self.projected[index].var(axis=0, dtype=np.float64).sum()
        return _share(best - held, np.trace(matrix))


def _rounded(norms: np.ndarray) -> np.ndarray:
    unit = norms.mean() or 1.0
    return np.round(norms / unit, _NORM_DIGITS) * unit


def _share(part: float, whole: float) -> float:
    return max(0.0, part / whole) if whole > 0 else 0.0
