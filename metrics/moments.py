"""Mean and covariance of rows that come in batches, and whether they differ at all."""

import numpy as np


class Moments:
    """Mean and covariance of rows given in batches, in float64 (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(())
        self._scatter = np.zeros(())

    def add(self, rows: np.ndarray) -> None:
        """Take a batch, (n, d)."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        centred, shift = rows - mean, mean - self.mean
        total = self.count + len(rows)
        self._scatter = self._scatter + centred.T @ centred
        if self.count:
            self._scatter += np.outer(shift, shift * (self.count * len(rows) / total))
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """The unbiased covariance, (d, d), of at least two rows."""
        return self._scatter / (self.count - 1)


class AllEqual:
    """Whether all rows that were given in batches are equal, to the last bit.

    Attributes:
        value: Whether they are.
    """

    def __init__(self) -> None:
        self.value = True
        self._first: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Take a batch of rows of any shape, (n, ...)."""
        for row in rows:
            if self._first is None:
                self._first = row.copy()
            elif self.value:
                self.value = np.array_equal(row, self._first)
