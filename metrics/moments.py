"""Mean and covariance of rows that come in batches."""

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
