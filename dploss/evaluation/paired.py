"""What values of the same queries say of all such queries: intervals, differences, shares, and whether they are shown.

The bootstrap draws queries anew (Efron & Tibshirani 1993), the same for all forms; the test flips the signs of their
differences (the randomisation test of Smucker, Allan & Carterette, CIKM 2007).
"""

from dataclasses import dataclass

import numpy as np

from dploss.text import MISSING

KEPT = 0.99
# With fewer queries, one in 100 that is lost altogether may not be among them: 0.99^299 is below 0.05.
FEWEST = 299
_RESAMPLES, _FLIPS, _BLOCK = 2000, 10_000, 50
Interval = tuple[float, float]


def resampled_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means over queries that are drawn anew, with replacement.

    Args:
        values: (m, Q) of the same queries.
        seed: of the draws.

    Returns:
        (2000, m) float64.
    """
    n, random = values.shape[1], np.random.RandomState(seed)
    means = []
    for _ in range(_RESAMPLES // _BLOCK):
        times = [np.bincount(random.randint(n, size=n), minlength=n) for _ in range(_BLOCK)]
        means.append(np.array(times, np.float64) @ values.T / n)
    return np.concatenate(means)


def interval(resampled: np.ndarray) -> Interval:
    """The 2.5 % and 97.5 % percentiles of (R,) resampled values."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def half_width(found: Interval) -> str:
    """Half the width of an interval, for a table: "±0.0043"."""
    return f"±{(found[1] - found[0]) / 2:.4f}"


def sign_flip_p(differences: np.ndarray, seed: int = 0) -> float:
    """How often the mean is as far from 0 as this one, if the sign of every query's difference were chance.

    Args:
        differences: (Q,).
        seed: of the signs.

    Returns:
        The two-sided p-value, 1 / 10,001 at least.
    """
    differences = differences[differences != 0]
    random = np.random.RandomState(seed)
    # Sums in another order may differ in the last digit.
    reached = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    times = 0
    for _ in range(_FLIPS // _BLOCK):
        signs = 2.0 * random.randint(2, size=(_BLOCK, len(differences))) - 1
        times += int((np.abs(signs @ differences) >= reached).sum())
    return (times + 1) / (_FLIPS + 1)


@dataclass(frozen=True)
class Share:
    """Which share of the original's mean is kept.

    Attributes:
        value: the ratio of both means; None where the original's is 0.
        interval: of 95 %; None of a single query, and where a resampled mean of the original is 0.
        n_queries: that it is of.
    """

    value: float | None
    interval: Interval | None
    n_queries: int

    @classmethod
    def of(cls, original: np.ndarray, resampled_original: np.ndarray, value: float, resampled: np.ndarray) -> "Share":
        """From the (Q,) values of the original, the mean of another form, and the (R,) resampled means of both."""
        mean, n_queries = float(original.mean()), len(original)
        if mean == 0:
            return cls(None, None, n_queries)
        is_defined = n_queries > 1 and resampled_original.all()
        found = interval(resampled / resampled_original) if is_defined else None
        return cls(value / mean, found, n_queries)

    def cells(self) -> list[str]:
        """The share and its interval in per cent, for a table."""
        shown = MISSING if self.interval is None else " to ".join(f"{100 * end:.2f}" for end in self.interval)
        return [MISSING if self.value is None else f"{100 * self.value:.2f} %", shown]

    def verdict(self) -> str:
        """Whether 99 % are kept: "yes" or "no" where the whole interval says so, else "not shown"."""
        if self.interval is not None and self.interval[1] < KEPT:
            return "no"
        shown = self.interval is not None and self.interval[0] >= KEPT and self.n_queries >= FEWEST
        return "yes" if shown else "not shown"
