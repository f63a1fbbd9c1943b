"""Losses compared by trials.py: each is DPLossV3 with the change that its docstring names."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dploss.losses.distance_preserving import DPLossV3, LossTerms, check_batch


class Laplace(DPLossV3):
    """Probabilities by the distance instead of its square."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean Kullback-Leibler divergence."""
        in_x, in_z = (F.log_softmax(-d / tau, dim=-1) for d in (d_x, d_z))
        return F.kl_div(in_z, in_x, log_target=True, reduction="batchmean")


class Student(DPLossV3):
    """Heavy-tailed probabilities in z, as of t-SNE."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean Kullback-Leibler divergence."""
        unit = 2 * d_x.mean() * tau
        in_x, in_z = F.log_softmax(-d_x.square() / unit, dim=-1), F.log_softmax(-(d_z.square() / unit).log1p(), dim=-1)
        return F.kl_div(in_z, in_x, log_target=True, reduction="batchmean")


class Nearest(DPLossV3):
    """The 10 nearest with equal weights, no others."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Cross-entropy with the 10 nearest in x."""
        near = d_x.topk(10, largest=False).indices
        return -F.log_softmax(-d_z.square() / (2 * d_x.mean() * tau), dim=-1).gather(-1, near).mean()


class Reverse(DPLossV3):
    """The divergence in the other direction, of x from z."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean Kullback-Leibler divergence, reversed."""
        unit = 2 * d_x.mean() * tau
        in_x, in_z = (F.log_softmax(-d.square() / unit, dim=-1) for d in (d_x, d_z))
        return F.kl_div(in_x, in_z, log_target=True, reduction="batchmean")


class PerRow(DPLossV3):
    """A temperature per row, proportional to the mean distance of its 10 nearest."""

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean Kullback-Leibler divergence."""
        near = d_x.topk(10, largest=False).values.mean(dim=-1, keepdim=True)
        unit = 2 * d_x.mean() * tau * near / near.mean()
        in_x, in_z = (F.log_softmax(-d.square() / unit, dim=-1) for d in (d_x, d_z))
        return F.kl_div(in_z, in_x, log_target=True, reduction="batchmean")


class LambdaRank(DPLossV3):
    """Pairs of one of the 10 nearest and any farther row, weighted by the change of NDCG if they were swapped.

    Burges, "From RankNet to LambdaRank to LambdaMART: an overview" (2010), section 4; the relevance of the 10 nearest
    falls from 10 to 1.
    """

    def rank_term(self, d_x: Tensor, d_z: Tensor, tau: Tensor) -> Tensor:
        """Mean weighted logistic loss."""
        relevance = torch.zeros_like(d_x)
        near = d_x.topk(10, largest=False).indices
        relevance.scatter_(-1, near, torch.arange(10.0, 0, -1).expand_as(near))
        ranks = d_z.detach().argsort(dim=-1).argsort(dim=-1)
        discount = 1 / (ranks + 2.0).log2()
        gains = relevance.gather(-1, near)[..., None] - relevance[:, None, :]
        costs = gains.clamp_min(0) * (discount.gather(-1, near)[..., None] - discount[:, None, :]).abs()
        apart = d_z.gather(-1, near)[..., None] - d_z[:, None, :]
        return (costs * F.softplus(apart / tau)).sum() / costs.sum()


class Memory(DPLossV3):
    """Each row is also compared with the rows of the last 4 batches, as they were encoded then.

    He et al., "Momentum contrast for unsupervised visual representation learning" (arXiv:1911.05722), without
    momentum.
    """

    def forward(self, x: Tensor, z: Tensor) -> LossTerms:
        """DPLossV3 over the batch and the memory."""
        check_batch(x, z)
        d_x, tau = self.original(x)
        terms = self.compare(d_x, tau, z)
        kept = getattr(self, "kept", [])
        if kept:
            far_x, far_z = (torch.cat(one) for one in zip(*kept, strict=True))
            d_x, d_z = (
                torch.cat([here, torch.cdist(rows, far)], dim=1)
                for here, rows, far in ((torch.cdist(x, x), x, far_x), (torch.cdist(z, z), z, far_z))
            )
            itself = torch.eye(len(x), d_x.shape[1], dtype=torch.bool)
            unit = 2 * d_x.mean() * tau
            in_x, in_z = (F.log_softmax((-d.square() / unit).masked_fill(itself, -1e4), dim=-1) for d in (d_x, d_z))
            rank = F.kl_div(in_z, in_x, log_target=True, reduction="batchmean")
            terms = LossTerms(self.lambda_rank * rank + self.lambda_pairdist * terms.pairdist, rank, terms.pairdist)
        self.kept = [*kept, (x, z.detach())][-4:]
        return terms
