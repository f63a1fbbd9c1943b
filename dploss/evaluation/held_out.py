"""Recall on the held-out rows of a training: of an encoding of them, and at each of its dimensions."""

from collections.abc import Callable, Sequence

import numpy as np

from dploss.codes.code import StoredForm, search_form
from dploss.data import MappedRows
from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.stored import stored_recall
from dploss.evaluation.ties import Ties, count_ties
from dploss.experiments.history import Recall
from metrics.resampling import jackknife


class HeldOutRows:
    """Rows that an encoder is evaluated on, and never trained on; a sample where they are many.

    Args:
        rows: (N, D) float32, all rows, in memory or on the disk.
        held_out_index: indices of those that are held out; may be empty.
        k: neighbours in recall@k.
        dims: of a Matryoshka encoder, its dimensions.
        seed: of the sample.
    """

    def __init__(
        self, rows: np.ndarray | MappedRows, held_out_index: np.ndarray, k: int, dims: Sequence[int], seed: int
    ) -> None:
        self.evaluator = RecallEvaluator(k, seed=seed)
        self.rows = rows
        self.index = held_out_index[self.evaluator.sample(len(held_out_index))]
        self.dims = dims

    def __bool__(self) -> bool:
        """Whether there are any."""
        return len(self.index) > 0

    def recall(self, encode: Callable[[np.ndarray], np.ndarray]) -> Recall:
        """Recall@k of an encoding of the rows."""
        rows = self.rows[self.index]
        return self.evaluator.evaluate(rows, encode(rows))

    def stored_recall(self, encode: Callable[[np.ndarray], np.ndarray], code: StoredForm, rerank: int = 1) -> Recall:
        """Recall@k of the rows as a code stores their latents, searched by their latents as they are.

        Args:
            encode: rows -> (n, d) float32 latents.
            code: fitted to latents of other rows.
            rerank: k * rerank candidates are re-ranked by the originals; 1: a single pass.
        """
        rows = self.rows[self.index]
        return stored_recall(self.evaluator, rows, encode(rows), code, rerank)

    def jackknife(
        self, encode: Callable[[np.ndarray, int | None], np.ndarray], code: StoredForm | None = None
    ) -> list[float]:
        """Recall@k of queries without each of several groups of rows; of a Matryoshka encoder the mean over its sizes.

        Args:
            encode: rows and d, or None -> (n, d) float32 latents.
            code: fitted to latents of other rows; None: of latents as they are.
        """
        rows, k = self.rows[self.index], self.evaluator.k
        kept = []
        for dim in self.dims or (None,):
            latents, queries = encode(rows, dim), None
            if code is not None:
                latents, queries = search_form(code, code.encode(latents), latents)
            kept.append(self.evaluator.neighbours_kept(rows, latents, [(k, k)], queries)[0])
        shares = np.mean(kept, axis=0) / k
        return jackknife(lambda index: float(shares[index].mean()), len(rows)).tolist()

    def ties(self) -> Ties:
        """How many of the rows have k nearest neighbours that are not determined."""
        return count_ties(self.rows[self.index], [self.evaluator.k])

    def recall_by_dim(self, encode: Callable[[np.ndarray, int], np.ndarray]) -> dict[int, float]:
        """Recall@k at each of a Matryoshka encoder's dimensions.

        Args:
            encode: rows and d -> (n, d) latents.
        """
        rows = self.rows[self.index]
        return {dim: self.evaluator.evaluate(rows, encode(rows, dim)).value for dim in self.dims}
