"""The held-out rows of a training: what keeps their neighbours, and how many of them."""

from collections.abc import Callable, Sequence

import numpy as np

from dploss.data import MappedRows
from dploss.evaluation.recall import RecallEvaluator
from dploss.experiments.history import Recall


class HeldOutRows:
    """Rows that are judged on, never trained on; a sample where they are many.

    Args:
        rows: (N, D) float32, all rows, in memory or on the disk.
        held_out: the numbers of those that are held out; may be none.
        k: neighbours of recall@k.
        dims: of a Matryoshka encoder, its sizes.
        seed: of the sample.
    """

    def __init__(
        self, rows: np.ndarray | MappedRows, held_out: np.ndarray, k: int, dims: Sequence[int], seed: int
    ) -> None:
        self.evaluator = RecallEvaluator(k, seed=seed)
        self.rows = rows
        self.numbers = held_out[self.evaluator.sample(len(held_out))]
        self.dims = dims

    def __bool__(self) -> bool:
        """Whether there are any."""
        return len(self.numbers) > 0

    def recall(self, encode: Callable[[np.ndarray], np.ndarray]) -> Recall:
        """Recall@k of an encoding of them."""
        judged = self.rows[self.numbers]
        return self.evaluator.evaluate(judged, encode(judged))

    def recall_by_dim(self, encode: Callable[[np.ndarray, int], np.ndarray]) -> dict[int, float]:
        """Recall@k at each of a Matryoshka encoder's sizes, by size.

        Args:
            encode: rows and a size -> their short vectors.
        """
        judged = self.rows[self.numbers]
        return {dim: self.evaluator.evaluate(judged, encode(judged, dim)).value for dim in self.dims}
