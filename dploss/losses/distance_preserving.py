"""Distance-preserving losses: the distances within a batch, and their ranks, should survive the encoder.

Every loss is lambda_rank * rank + lambda_pairdist * pairdist. The base class checks the batch and computes the
distances once; a subclass defines the rank term.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.losses.soft_rank import hard_rank, soft_rank
from dploss.losses.units import power_of_two


class LossTerms(NamedTuple):
    """What a loss returns: three scalars, of which `total` is the one to differentiate."""

    total: Tensor
    rank: Tensor
    pairdist: Tensor


def pairwise_distances(v: Tensor) -> Tensor:
    """Euclidean distances between the rows of a batch, by one matrix product.

    The rows are centred first, which costs float32 no digits where they share a large offset, and squared in units near
    their size. Distances below the product's rounding noise are set to that noise and get no gradient: the square root
    has none at 0.

    Args:
        v: (B, D) rows, floating point.

    Returns:
        (B, B) distances.
    """
    v = v - v.mean(dim=0)
    unit = power_of_two(v.abs().max())
    v = v / unit
    gram = v @ v.T
    norms = gram.diagonal()
    squared = norms[:, None] + norms[None, :] - 2 * gram
    limits = torch.finfo(v.dtype)
    floor = (limits.eps * norms.detach().mean()).clamp_min(limits.tiny)
    return squared.clamp(min=floor).sqrt() * unit


def without_diagonal(d: Tensor) -> Tensor:
    """(B, B) -> (B, B-1): every row's distances to the others, in order."""
    size = len(d)
    return d.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)


class DPLoss(nn.Module, ABC):
    """Base of the family: total = lambda_rank * rank + lambda_pairdist * pairdist.

    pairdist is the mean squared difference of the distances within the batch, before and after. Subclasses define the
    rank term. A row's distance to itself is in no rank, sum or mean.

    Args:
        k: what DPLossV1 and DPLossV1Norm divide their rank term by, at least 1; the V2 losses have no k.
        lambda_rank: weight of the rank term, at least 0.
        lambda_pairdist: weight of the pair distance term, at least 0.
        tau: temperature of the soft ranks, or of V3's neighbour probabilities, above 0, in units of the standard
            deviation of the batch's distances in x, so that one tau is as sharp on unit-norm embeddings as on raw
            pixels.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, k: int = 5, lambda_rank: float = 1.0, lambda_pairdist: float = 0.3, tau: float = 1.0) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        for name, weight in (("lambda_rank", lambda_rank), ("lambda_pairdist", lambda_pairdist)):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name} must be a finite number, at least 0, got {weight}")
        if not (math.isfinite(tau) and tau > 0):
            raise ValueError(f"tau must be a finite number above 0, got {tau}")
        self.k = k
        self.lambda_rank = lambda_rank
        self.lambda_pairdist = lambda_pairdist
        self.tau = tau

    def forward(self, x: Tensor, z: Tensor) -> LossTerms:
        """Compare a batch of vectors with its latents.

        Args:
            x: (B, D) vectors, B at least 3; they get no gradient.
            z: (B, d) latents of the same rows. Half precision is computed in float32.

        Returns:
            LossTerms of scalars.

        Raises:
            ValueError: x or z is no floating-point matrix, they differ in their number of rows or have fewer than 3,
                or a value is not finite.
        """
        check_batch(x, z)
        return self.compare(*self.original(x), z)

    @torch.no_grad()
    def original(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What latents are compared with: (B, B-1) distances of a batch of vectors, and tau in their units."""
        d_x = without_diagonal(pairwise_distances(_at_least_float32(x)))
        return d_x, self.temperature(d_x)

    def temperature(self, d_x: Tensor) -> Tensor:
        """Tau in the units of distances (n, m) of the originals."""
        unit = power_of_two(d_x.max())
        spread = (d_x / unit).std(correction=0) * unit
        # Where all distances are equal the spread is 0, or rounding noise: tau must stay above 0.
        limits = torch.finfo(d_x.dtype)
        return self.tau * spread.clamp_min(limits.eps * d_x.mean()).clamp_min(limits.tiny)

    def compare(self, d_x: Tensor, tau: Tensor, z: Tensor) -> LossTerms:
        """The terms for (B, d) latents `z`, given the distances and tau that `original` returns for their vectors."""
        return self.terms(d_x, without_diagonal(pairwise_distances(_at_least_float32(z))), tau)

    def terms(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> LossTerms:
        """The terms for distances of any kind in place of those of latents, see `compare`; also (n, m)."""
        rank = self.rank_term(d_x, d_z, tau)
        pairdist = (d_z - d_x).square().mean()
        return LossTerms(self.lambda_rank * rank + self.lambda_pairdist * pairdist, rank, pairdist)

    @abstractmethod
    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """How far the ranks in z are from those in x.

        Args:
            d_x: (B, B-1) distances of every row to the others, before the encoder.
            d_z: (B, B-1) the same after it.
            tau: temperature in the units of d_x, a scalar.

        Returns:
            A scalar.
        """

    def extra_repr(self) -> str:
        """Show the settings when the loss is printed."""
        return f"k={self.k}, lambda_rank={self.lambda_rank}, lambda_pairdist={self.lambda_pairdist}, tau={self.tau}"


class DPLossV1(DPLoss):
    """Hard ranks: the mean of abs(hard rank in x - hard rank in z) / k.

    A hard rank has no gradient, so the value is the hard ranks' and the gradient the soft ranks'
    (straight-through: Bengio, Léonard & Courville, arXiv:1308.3432).
    """

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Hard ranks' value, soft ranks' gradient."""
        difference = (hard_rank(d_z) - hard_rank(d_x)).to(d_z.dtype)
        soft = soft_rank(d_z, tau)
        # The second part is exactly 0, and carries the gradient.
        return (difference.abs() + difference.sign() * (soft - soft.detach())).mean() / self.k


class DPLossV1Norm(DPLossV1):
    """DPLossV1 on ranks scaled to 0..1, (r - 1) / (B - 2)."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """DPLossV1's, on scaled ranks."""
        return super().rank_term(d_x, d_z, tau) / (d_x.shape[1] - 1)


class DPLossV2(DPLoss):
    """Soft ranks: the mean of (soft rank in x - soft rank in z)^2."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Soft ranks' mean squared difference."""
        return (soft_rank(d_z, tau) - soft_rank(d_x, tau)).square().mean()


class DPLossV2Norm(DPLossV2):
    """DPLossV2 on ranks scaled to 0..1, (r - 1) / (B - 2)."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """DPLossV2's, on scaled ranks."""
        return super().rank_term(d_x, d_z, tau) / (d_x.shape[1] - 1) ** 2


class DPLossV3(DPLoss):
    """The head of the ranking: how much a row's neighbour probabilities change, in nats.

    Row i takes row j for its neighbour with a probability that falls with their squared distance, softmax over j of
    -D[i,j]^2 / (2 * mean(D) * tau): near the mean distance that is exp(-D / tau), and nearer rows weigh more than their
    share. The rank term is the mean over rows of the Kullback-Leibler divergence of these probabilities in z from
    those in x. Far rows hardly count, which the rank differences of V1 and V2 weigh like near ones.

    Sources: the top-one probabilities of ListNet (Cao et al. 2007), over the kernel of stochastic neighbour
    embedding (Hinton & Roweis 2002).
    """

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean Kullback-Leibler divergence of the neighbour probabilities."""
        unit = d_x.mean().clamp_min(torch.finfo(d_x.dtype).tiny)
        sharpness = unit / (2 * tau)
        # Rows of x that are all equal have distances of rounding noise alone, beside which those of z may be any size.
        most = torch.finfo(d_x.dtype).max ** 0.75
        exponents = ((sharpness * (d / unit).square()).clamp(max=most) for d in (d_x, d_z))
        in_x, in_z = (F.log_softmax(-one, dim=-1) for one in exponents)
        return F.kl_div(in_z, in_x, log_target=True, reduction="batchmean")


LOSSES: dict[str, type[DPLoss]] = {
    loss.__name__: loss for loss in (DPLossV1, DPLossV1Norm, DPLossV2, DPLossV2Norm, DPLossV3)
}


def check_batch(x: Tensor, z: Tensor) -> None:
    """Check a batch of vectors and latents.

    Raises:
        ValueError: see `DPLoss.forward`.
    """
    for name, value in (("x", x), ("z", z)):
        if value.ndim != 2 or not value.is_floating_point():
            kind = f"{value.dtype} of shape {tuple(value.shape)}"
            raise ValueError(f"{name} must be a floating-point matrix (rows, dimensions), got {kind}")
    if len(x) != len(z):
        raise ValueError(f"x and z must have the same rows, got {len(x)} and {len(z)}")
    if len(x) < 3:
        raise ValueError(f"x must have at least 3 rows, for ranks need two neighbours, got {len(x)}")
    for name, value in (("x", x), ("z", z)):
        finite = value.isfinite()
        if not finite.all():
            row, column = (~finite).nonzero()[0].tolist()
            raise ValueError(f"{name} must be finite, got {value[row, column].item()} at [{row}, {column}]")


def _at_least_float32(v: Tensor) -> Tensor:
    return v.to(torch.promote_types(v.dtype, torch.float32))
