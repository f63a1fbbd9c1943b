"""Recall@k: how many of a row's nearest neighbours are still its nearest in the latent space."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dploss.experiments.history import Recall

# Distances held at a time, per space: 2**23 of them are 32 MB in float32.
CHUNK = 2**23


class RecallEvaluator:
    """Mean over rows of the share of their k nearest latents that are among their k nearest originals.

    A row is not its own neighbour: it is left out by index. An original at the k-th distance counts however many
    tie there, so duplicates cost nothing. Distances are Euclidean.

    Args:
        k: neighbours per query, at least 1.
        num_samples: of more rows, a random sample of this size is evaluated, as queries and as the rows searched;
            above k.
        seed: of that sample.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, k: int = 5, num_samples: int = 3000, seed: int = 0) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if num_samples <= k:
            raise ValueError(f"num_samples must be above k = {k}, got {num_samples}")
        self.k = k
        self.num_samples = num_samples
        self.seed = seed

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
        self, original: np.ndarray | Tensor, latent: np.ndarray | Tensor, searches: Sequence[tuple[int, int]]
    ) -> list[Recall]:
        """Recall of several searches that retrieve candidates by latent, then keep the nearest of them by original.

        What latents lose in the order of near rows, the originals of a few candidates restore.

        Args:
            original: (N, D) vectors, any real dtype.
            latent: (N, d) latents of the same rows.
            searches: (k, candidates) of each, 1 <= k <= candidates < N (or the sample). With as many candidates as
                neighbours there is nothing to re-rank, and it is the plain recall@k.

        Returns:
            For each search the recall@k. All searches share the distances, so several cost little more than one.

        Raises:
            ValueError: as `evaluate`, or a search outside its range.
        """
        x, z = _as_rows("original", original), _as_rows("latent", latent)
        if len(x) != len(z):
            raise ValueError(f"original and latent must have the same rows, got {len(x)} and {len(z)}")
        rows = min(len(x), self.num_samples)
        for k, candidates in searches:
            if not 1 <= k <= candidates:
                raise ValueError(f"a search needs 1 <= k <= candidates, got k = {k}, candidates = {candidates}")
            if rows <= candidates:
                raise ValueError(f"original must have more rows than the {candidates} to fetch, got {rows}")
        if len(x) > self.num_samples:
            index = torch.from_numpy(self.sample(len(x)))
            x, z = x[index.to(x.device)], z[index.to(z.device)]
        originals, latents = _Searched("original", x), _Searched("latent", z)
        most_kept, most_fetched = (max(sizes) for sizes in zip(*searches, strict=True))
        step = max(1, CHUNK // rows)
        found = [0] * len(searches)
        for start in range(0, rows, step):
            queries = slice(start, min(start + step, rows))
            from_x = originals.closeness(queries)
            nearest = from_x.topk(most_kept, largest=False).values
            fetched = latents.closeness(queries).topk(most_fetched, largest=False).indices.to(from_x.device)
            fetched = from_x.gather(-1, fetched)
            for place, (k, candidates) in enumerate(searches):
                kth = nearest[:, k - 1 : k]
                near = fetched[:, :candidates] <= kth + originals.noise(queries, kth)
                found[place] += int(near.sum(-1).clamp_(max=k).sum())
        return [Recall(count / (rows * k), k, rows) for count, (k, _) in zip(found, searches, strict=True)]


class _Searched:
    """The rows of one space, ready to be compared with any of them."""

    def __init__(self, name: str, rows: Tensor) -> None:
        # Centred, so that a large common offset costs no digits.
        self.rows = rows - rows.mean(dim=0)
        self.norms = self.rows.square().sum(-1)
        if not self.norms.isfinite().all():
            raise ValueError(f"{name} must be finite, and small enough to be squared")

    def closeness(self, queries: slice) -> Tensor:
        """(queries, N): squared distances to all rows, less the query's own squared norm; infinite to itself."""
        to_all = torch.mm(-2 * self.rows[queries], self.rows.T).add_(self.norms)
        index = torch.arange(len(to_all), device=to_all.device)
        to_all[index, index + queries.start] = torch.inf
        return to_all

    def noise(self, queries: slice, closeness: Tensor) -> Tensor:
        """(queries, 1): how far apart the matrix product may put rows of equal distance that are this close."""
        norms = self.norms[queries, None]
        return 16 * torch.finfo(norms.dtype).eps * (2 * norms + closeness)


def _as_rows(name: str, values: np.ndarray | Tensor) -> Tensor:
    rows = torch.as_tensor(values)
    if rows.ndim != 2:
        raise ValueError(f"{name} must be a matrix (rows, dimensions), got shape {tuple(rows.shape)}")
    return rows.detach().to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
