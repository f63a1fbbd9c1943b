"""Recall@k: how many of a row's nearest neighbours are still its nearest in the latent space."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dploss.arguments import whole_number
from dploss.evaluation.space import Space, as_rows, over_queries
from dploss.experiments.recalls import Recall

_LARGEST_SEED = 2**32 - 1


class RecallEvaluator:
    """Mean over rows of the share of their k nearest latents that are among their k nearest originals.

    A row is not its own neighbour: it is left out by index. An original at the k-th distance counts however many
    tie there, so duplicates cost nothing (see `count_ties`). Distances are Euclidean, and may have any unit.

    Args:
        k: neighbours per query, at least 1.
        num_samples: of more rows, a random sample of this size is evaluated, as queries and as the rows searched;
            above k.
        seed: of that sample.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, k: int = 5, num_samples: int = 3000, seed: int = 0) -> None:
        self.k = whole_number("k", k, 1)
        self.num_samples = whole_number("num_samples", num_samples, self.k + 1)
        self.seed = whole_number("seed", seed, 0, _LARGEST_SEED)

    def sample(self, rows: int) -> np.ndarray:
        """Which of `rows` rows are evaluated: sorted int64 indices, all of them up to `num_samples`."""
        if rows <= self.num_samples:
            return np.arange(rows)
        # RandomState: its stream is frozen by NumPy, so the sample is the same in every version.
        return np.sort(np.random.RandomState(self.seed).choice(rows, self.num_samples, replace=False))

    def evaluate(self, original: np.ndarray | Tensor, latent: np.ndarray | Tensor) -> Recall:
        """Compare the neighbours of rows before and after.

        Args:
            original: (N, D) vectors, any real dtype.
            latent: (N, d) latents of the same rows.

        Returns:
            The recall, with k and the number of rows it was measured on. Memory is O(chunk x rows).

        Raises:
            ValueError: not two matrices of as many rows, no more rows than k, or values that are not finite.
        """
        return self.evaluate_reranked(original, latent, [(self.k, self.k)])[0]

    def evaluate_reranked(
        self,
        original: np.ndarray | Tensor,
        latent: np.ndarray | Tensor,
        searches: Sequence[tuple[int, int]],
        queries: np.ndarray | Tensor | None = None,
    ) -> list[Recall]:
        """Recall of several searches that retrieve candidates by latent, then keep the nearest of them by original.

        What latents lose in the order of near rows, the originals of a few candidates restore.

        Args:
            original: (N, D) vectors, any real dtype.
            latent: (N, d) latents of the same rows.
            searches: (k, candidates) of each, 1 <= k <= candidates < N (or the sample). With as many candidates as
                neighbours there is nothing to re-rank, and it is the plain recall@k.
            queries: (N, d), what the same rows are as queries, where they search among rows in another form
                (asymmetric search); None: their latents.

        Returns:
            For each search the recall@k and its standard error. All searches share the distances, so several cost
            little more than one.

        Raises:
            ValueError: as `evaluate`, or a search outside its range.
        """
        kept = self.neighbours_kept(original, latent, searches, queries)
        return [recall_of(found, int(k), len(found)) for found, (k, _) in zip(kept, searches, strict=True)]

    def neighbours_kept(
        self,
        original: np.ndarray | Tensor,
        latent: np.ndarray | Tensor,
        searches: Sequence[tuple[int, int]],
        queries: np.ndarray | Tensor | None = None,
    ) -> np.ndarray:
        """(searches, rows) int64: how many of its k nearest neighbours each row keeps; see `evaluate_reranked`."""
        x, z = as_rows("original", original), as_rows("latent", latent)
        q = None if queries is None else as_rows("queries", queries)
        if q is not None and q.shape != z.shape:
            raise ValueError(f"queries and latent must have the same shape, got {tuple(q.shape)} and {tuple(z.shape)}")
        if len(x) != len(z):
            raise ValueError(f"original and latent must have the same rows, got {len(x)} and {len(z)}")
        rows = min(len(x), self.num_samples)
        searches = [(whole_number("k", k, 1), whole_number("candidates", found, 1)) for k, found in searches]
        for k, candidates in searches:
            if k > candidates:
                raise ValueError(f"a search needs 1 <= k <= candidates, got k = {k}, candidates = {candidates}")
            if rows <= candidates:
                raise ValueError(f"original must have more rows than the {candidates} to fetch, got {rows}")
        if len(x) > self.num_samples:
            index = torch.from_numpy(self.sample(len(x)))
            x, z = x[index.to(x.device)], z[index.to(z.device)]
            q = None if q is None else q[index.to(q.device)]
        return neighbours_kept(Space("original", x), Space("latent", z, q), searches)


def neighbours_kept(originals: Space, latents: Space, searches: Sequence[tuple[int, int]]) -> np.ndarray:
    """How many of its k nearest neighbours each query keeps; one at the k-th distance counts however many tie there.

    Args:
        originals: N rows and Q queries.
        latents: of the same rows and queries.
        searches: (k, candidates) of each, 1 <= k <= candidates < N: see `RecallEvaluator.evaluate_reranked`.

    Returns:
        (searches, Q) int64.
    """
    most_kept, most_fetched = (max(sizes) for sizes in zip(*searches, strict=True))
    least_kept, least_fetched = (min(sizes) - 1 for sizes in zip(*searches, strict=True))

    def kept(spaces: Sequence[Space], queries: Tensor) -> tuple[Tensor, Tensor]:
        originals, latents = spaces
        from_x = originals.closeness(queries)
        nearest = from_x.topk(most_kept, largest=False).values
        nearest_z, fetched = latents.closeness(queries).topk(most_fetched, largest=False)
        from_x = from_x.gather(-1, fetched.to(from_x.device))
        found = []
        for k, candidates in searches:
            near = from_x[:, :candidates] <= originals.limit(queries, nearest[:, k - 1])
            found.append(near.sum(-1).clamp_(max=k))
        unsure = originals.unsure(queries, nearest[:, least_kept])
        unsure |= latents.unsure(queries, nearest_z[:, least_fetched]).to(unsure.device)
        return torch.stack(found), unsure

    return over_queries((originals, latents), kept).numpy()


def recall_of(kept: np.ndarray, k: int, rows: int, queries: int | None = None) -> Recall:
    """Recall@k of searches of which (Q,) `kept` says how many neighbours each keeps, with its standard error.

    Args:
        kept: 0..k each.
        k: neighbours per query.
        rows: how many were searched.
        queries: how many searched, where these are not the rows.
    """
    error = float(kept.std(ddof=1)) / k / len(kept) ** 0.5 if len(kept) > 1 else None
    return Recall(int(kept.sum()) / (len(kept) * k), k, rows, error, queries)
