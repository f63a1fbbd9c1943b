"""What a step of an encoder of both sides minimises: the loss of the distances from queries to rows."""

from collections.abc import Callable

import torch
from torch import Tensor

from dploss.losses.distance_preserving import DPLoss, LossTerms, without_diagonal
from dploss.losses.matryoshka import balanced
from dploss.models.asymmetric import AsymmetricEncoder

_LEAST_SQUARE = 1e-6


class QueryObjective:
    """The mean of two losses: of queries, and of the rows of the batch as queries, for rows are many more.

    Inner products become squared distances by adding what is the same for all rows of a query, which ranks nothing: to
    those of latents what makes distances of the originals'. Under "ip", where there are none, it is the product of the
    query's norm and that of the longest row.

    Args:
        loss: the member of the family.
        encoder: the one that is trained.
        truncate: latents of rows and a size -> their first dimensions, as a training sees them.
    """

    def __init__(self, loss: DPLoss, encoder: AsymmetricEncoder, truncate: Callable[[Tensor, int], Tensor]) -> None:
        self.loss, self.encoder, self.truncate = loss, encoder, truncate

    def __call__(self, x: Tensor, z: Tensor, q: Tensor, z_q: Tensor, z_x: Tensor) -> LossTerms:
        """The terms.

        Args:
            x: (B, D) rows.
            z: (B, d) their latents.
            q: (Q, D) queries, which may be none.
            z_q: (Q, d) their latents.
            z_x: (B, d) latents of the rows as queries.

        Raises:
            ValueError: a value is not finite.
        """
        of_rows = self._terms(x, z, x, z_x, without_diagonal)
        if not len(q):
            return of_rows
        of_queries = self._terms(x, z, q, z_q, lambda distances: distances)
        return LossTerms(*((one + other) / 2 for one, other in zip(of_rows, of_queries, strict=True)))

    def _terms(self, x: Tensor, z: Tensor, q: Tensor, z_q: Tensor, to_others: Callable[[Tensor], Tensor]) -> LossTerms:
        """The terms of the distances from queries to rows, without those that `to_others` leaves out."""
        # Norms are near 1, as the loss among rows has them.
        encoder, scale, dim = self.encoder, self.encoder.scale, x.shape[1]
        if not (z.isfinite().all() and z_q.isfinite().all()):
            raise ValueError("latents must be finite")
        with torch.no_grad():
            added = self._added(x, q) / dim
            d_x = to_others(_distances(added, encoder.sphered_queries(q) @ encoder.sphered(x).T / dim))
            tau = self.loss.temperature(d_x)
        terms = []
        for size in encoder.dims:
            products = (z_q[:, :size] / scale) @ (self.truncate(z, size) / scale).T / dim
            terms.append(self.loss.terms(d_x, to_others(_distances(added, products)), tau))
        return balanced(terms)

    def _added(self, x: Tensor, q: Tensor) -> Tensor:
        """(Q, 1): half the squared distance from a query to a row, and their inner product as the encoder has it."""
        encoder = self.encoder
        if encoder.metric == "euclidean":
            q = (q - encoder.mean) / encoder.scale
            return q.square().sum(dim=1, keepdim=True) / 2 + encoder.half_norm
        if encoder.metric == "cosine":
            return (1 - encoder.as_compared(q) @ encoder.mean)[:, None] / encoder.scale**2
        longest = ((x - encoder.mean) / encoder.scale).norm(dim=1).max()
        return (q / encoder.scale).norm(dim=1, keepdim=True) * longest


def _distances(added: Tensor, products: Tensor) -> Tensor:
    return (2 * (added - products)).clamp_min(_LEAST_SQUARE).sqrt()
