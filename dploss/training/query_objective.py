"""What a step with queries minimises: the loss among rows, and that of the distances from queries to rows."""

from collections.abc import Callable

import torch
from torch import Tensor

from dploss.losses.distance_preserving import DPLoss, LossTerms
from dploss.losses.matryoshka import balanced
from dploss.models.asymmetric import AsymmetricEncoder

_LEAST_SQUARE = 1e-6


class QueryObjective:
    """The mean of two losses of one family: among sphered rows, and between queries and rows.

    Inner products become squared distances by adding what is the same for all rows of a query, which ranks nothing: to
    those of latents what makes distances of the originals'. Under "ip", where there are none, it is the product of the
    query's norm and that of the longest row.

    Args:
        of_rows: the loss among rows: (B, D') sphered rows, (B, d) latents -> its terms.
        loss: the member of the family, of the distances from queries.
        encoder: the one that is trained.
        truncate: latents of rows and a size -> their first dimensions, as a training sees them.
    """

    def __init__(
        self,
        of_rows: Callable[[Tensor, Tensor], LossTerms],
        loss: DPLoss,
        encoder: AsymmetricEncoder,
        truncate: Callable[[Tensor, int], Tensor],
    ) -> None:
        self.of_rows, self.loss, self.encoder, self.truncate = of_rows, loss, encoder, truncate

    def __call__(self, x: Tensor, z: Tensor, q: Tensor, z_q: Tensor) -> LossTerms:
        """The terms.

        Args:
            x: (B, D) rows.
            z: (B, d) their latents.
            q: (Q, D) queries.
            z_q: (Q, d) their latents.

        Raises:
            ValueError: a value is not finite.
        """
        with torch.no_grad():
            sphered = self.encoder.sphered(x)
        rows = self.of_rows(sphered * self.encoder.scale, z)
        queries = self.of_queries(x, sphered, z, q, z_q)
        return LossTerms(*((one + other) / 2 for one, other in zip(rows, queries, strict=True)))

    def of_queries(self, x: Tensor, sphered: Tensor, z: Tensor, q: Tensor, z_q: Tensor) -> LossTerms:
        """The terms of the distances from queries to rows alone; `sphered` are (B, D') rows."""
        # Norms are near 1, as the loss among rows has them.
        scale, dim = self.encoder.scale, x.shape[1]
        with torch.no_grad():
            added = self._added(x, q) / dim
            d_x = _distances(added, self.encoder.sphered_queries(q) @ sphered.T / dim)
            tau = self.loss.temperature(d_x)
        terms = []
        for size in self.encoder.dims:
            products = (z_q[:, :size] / scale) @ (self.truncate(z, size) / scale).T / dim
            terms.append(self.loss.terms(d_x, _distances(added, products), tau))
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
