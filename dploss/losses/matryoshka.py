"""Matryoshka loss: trains one encoder so that the first dimensions of its latents are good latents themselves."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dploss.losses.distance_preserving import DPLoss, LossTerms, check_batch

# Measured (docs/QUALITY.md): no size loses more than 0.02 of recall against an encoder of its own.
NORM_SHARE = 0.5
_BALANCE, _SMALLEST = 0.75, 2.5


class MatryoshkaLoss(nn.Module):
    """A loss of the family on truncated latents, for several sizes at once.

    The terms are means over the sizes. Small sizes lose much more than large ones, and their gradients would dominate,
    so each size's gradient is divided by a power of its loss. The smallest size weighs more: no smaller one inside it
    helps to train it.

    In training, truncation restores half of the norm (a power of one half). With none restored, the first dimensions
    grow until they keep the distances alone, and the larger sizes add nothing. With all restored, as in use, nothing
    fixes the scale of the first dimensions against the ones that follow.

    Source: Kusupati et al., arXiv:2205.13147, with distances in place of labels.

    Args:
        loss: the member of the family.
        dims: the sizes, ascending, at most d.
        truncate: (latents, dim, norm_share) -> truncated latents: `Encoder.truncate`.
    """

    def __init__(self, loss: DPLoss, dims: Sequence[int], truncate: Callable[[Tensor, int, float], Tensor]) -> None:
        super().__init__()
        self.loss = loss
        self.dims = tuple(dims)
        self.truncate = truncate

    def forward(self, x: Tensor, z: Tensor) -> LossTerms:
        """Compare a batch of vectors with its latents, truncated to each size.

        Args:
            x: (B, D) vectors, B at least 3.
            z: (B, d) latents of the same rows.

        Returns:
            LossTerms of scalars.

        Raises:
            ValueError: see `DPLoss.forward`.
        """
        check_batch(x, z)
        d_x, tau = self.loss.original(x)
        return balanced([self.loss.compare(d_x, tau, self.truncate(z, dim, NORM_SHARE)) for dim in self.dims])


def balanced(terms: Sequence[LossTerms]) -> LossTerms:
    """The mean of the terms of several sizes, the smallest first; its gradient weighs them, see `MatryoshkaLoss`."""
    if len(terms) == 1:
        return terms[0]
    total, rank, pairdist = (torch.stack(one).mean() for one in zip(*terms, strict=True))
    totals = torch.stack([one.total for one in terms])
    weights = totals.detach().clamp_min(torch.finfo(totals.dtype).eps) ** -_BALANCE
    weights[0] *= _SMALLEST
    weighted = (weights * totals).mean()
    # The value is the plain mean's, the gradient the weighted one's.
    return LossTerms(total.detach() + (weighted - weighted.detach()), rank, pairdist)
