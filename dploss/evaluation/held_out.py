"""Recall on what a training does not see: held-out rows, which search among themselves, or held-out queries."""

from collections.abc import Sequence

import numpy as np
import torch

from dploss.codes.code import StoredForm, search_form
from dploss.config import TrainConfig
from dploss.data import MappedRows
from dploss.data.experiment_data import ExperimentData
from dploss.data.split import evenly_spaced
from dploss.evaluation.recall import RecallEvaluator, neighbours_kept, recall_of
from dploss.evaluation.sides import Sides
from dploss.evaluation.space import Space
from dploss.evaluation.ties import Ties, count_ties
from dploss.experiments.recalls import Recall
from metrics.resampling import jackknife

# Searched at every checkpoint.
_MOST_QUERIES, _MOST_ROWS = 3000, 50_000


class HeldOut:
    """Rows that an encoder is evaluated on, and the queries that search among them; a sample where they are many.

    Args:
        rows: (N, D) float32, all rows, in memory or on the disk.
        index: indices of those to evaluate on, which may be none; of more than 3,000 a random sample, with queries of
            more than 50,000 an evenly spaced one.
        k: neighbours in recall@k.
        dims: of a Matryoshka encoder, its dimensions.
        seed: of the sample.
        metric: "euclidean", of rows as they are compared, or "ip".
        queries: (Q, D) float32; of more than 3,000 an evenly spaced sample. None: the rows search among themselves.
    """

    def __init__(
        self,
        rows: np.ndarray | MappedRows,
        index: np.ndarray,
        k: int,
        dims: Sequence[int],
        seed: int,
        metric: str = "euclidean",
        queries: np.ndarray | MappedRows | None = None,
    ) -> None:
        self.evaluator = RecallEvaluator(k, seed=seed)
        self.rows, self.dims, self.metric = rows, dims, metric
        if queries is None:
            self.queries, self.index = None, index[self.evaluator.sample(len(index))]
        else:
            self.queries = queries[evenly_spaced(len(queries), _MOST_QUERIES)] if len(queries) else queries[:0]
            self.index = index[evenly_spaced(len(index), _MOST_ROWS)] if len(index) else index

    @classmethod
    def of(cls, config: TrainConfig, data: ExperimentData) -> "HeldOut":
        """What a training holds out."""
        settings = config.k, config.matryoshka_dims, config.seed, config.row_metric
        if data.queries is None:
            return cls(data.vectors.rows, data.held_out_index, *settings)
        queries = data.queries.vectors.rows[data.queries.held_out_index]
        if data.queries.database is None:
            return cls(data.vectors.rows, data.held_out_index, *settings, queries)
        rows = data.queries.database.rows
        return cls(rows, np.arange(len(rows)), *settings, queries)

    def __bool__(self) -> bool:
        """Whether there is anything to search, and to search with."""
        return len(self.index) > 0 and (self.queries is None or len(self.queries) > 0)

    def recall(self, sides: Sides, code: StoredForm | None = None, rerank: int = 1, dim: int | None = None) -> Recall:
        """Recall@k of an encoding.

        Args:
            sides: of float32 latents.
            code: how rows are stored, fitted to latents of others; queries stay floats. None: rows are not coded.
            rerank: k * rerank candidates are re-ranked by the originals; 1: a single pass.
            dim: of the first dimensions alone.
        """
        k = self.evaluator.k
        return self._recalls([(k, k * rerank)], self._found(sides, code, dim))[0]

    def recalls(self, sides: Sides, ks: Sequence[int], code: StoredForm | None = None) -> list[Recall]:
        """Recall at several k; see `recall`."""
        return self._recalls([(k, k) for k in ks], self._found(sides, code, None)) if ks else []

    def jackknife(self, sides: Sides, code: StoredForm | None = None) -> list[float]:
        """Recall@k of queries without each of several groups of them; of a Matryoshka encoder the mean over its sizes.

        Args:
            sides: of float32 latents.
            code: fitted to latents of other rows; None: of latents as they are.
        """
        k, kept = self.evaluator.k, []
        for dim in self.dims or (None,):
            kept.append(neighbours_kept(self._originals(), self._found(sides, code, dim), [(k, k)])[0])
        shares = np.mean(kept, axis=0) / k
        return jackknife(lambda index: float(shares[index].mean()), len(shares)).tolist()

    def ties(self) -> Ties:
        """How many of the rows have k nearest neighbours that are not determined."""
        return count_ties(self.rows[self.index], [self.evaluator.k], self.metric)

    def recall_by_dim(self, sides: Sides) -> dict[int, float]:
        """Recall@k at each of a Matryoshka encoder's dimensions."""
        return {dim: self.recall(sides, dim=dim).value for dim in self.dims}

    def _originals(self) -> Space:
        return self._space("original", self.rows[self.index], self.queries, self.metric)

    def _found(self, sides: Sides, code: StoredForm | None, dim: int | None) -> Space:
        """Rows and queries as they are compared in place of the originals."""
        rows = sides.encode(self.rows[self.index], dim=dim)
        if code is not None:
            return self._space("stored", *search_form(code, code.encode(rows), self._asked(sides, dim)))
        are_latents = self.queries is None and sides.latent_metric == "euclidean"
        return self._space("latent", rows, None if are_latents else self._asked(sides, dim), sides.latent_metric)

    def _asked(self, sides: Sides, dim: int | None) -> np.ndarray:
        return sides.encode_queries(self.rows[self.index] if self.queries is None else self.queries, dim=dim)

    def _space(self, name: str, rows: np.ndarray, queries: np.ndarray | None, metric: str = "euclidean") -> Space:
        asked = None if queries is None else torch.as_tensor(queries)
        return Space(name, torch.as_tensor(rows), asked, metric, are_rows=self.queries is None)

    def _recalls(self, searches: Sequence[tuple[int, int]], found: Space) -> list[Recall]:
        kept = neighbours_kept(self._originals(), found, searches)
        n_queries = None if self.queries is None else len(self.queries)
        return [recall_of(one, k, len(self.index), n_queries) for one, (k, _) in zip(kept, searches, strict=True)]
