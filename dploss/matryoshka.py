"""Matryoshka: one encoder, trained so that the first numbers of its latents are good codes themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dploss.losses import DPLoss, LossTerms, check_batch

# Measured (docs/QUALITY.md): so all sizes lose about as much against encoders of their own.
_FIRST_BALANCE, _LAST_BALANCE = 0.5, 1.0
_SHORTEST, _LONGEST = 12.5, 3.78


class MatryoshkaLoss(nn.Module):
    """A loss of the family on the first numbers of the latents, for several sizes at once.

    The terms are means over the sizes. Short codes lose much more than long ones, and their gradients would drown the
    rest, so each size's gradient is divided by a power of its own loss, and those of the shortest and the longest
    weigh more, which have a neighbour to help them on one side only. The power grows as the training goes on: the
    short codes, which all sizes begin with, are settled first, and the longer ones around them.

    Source: Kusupati et al., arXiv:2205.13147, with distances in place of labels.

    Args:
        loss: the member of the family.
        dims: the sizes, each at most the latents' own.

    Attributes:
        progress: the share of the training that is done, 0 to 1; whoever trains keeps it up to date.
    """

    def __init__(self, loss: DPLoss, dims: Sequence[int]) -> None:
        super().__init__()
        self.loss = loss
        self.dims = tuple(dims)
        self.progress = 0.0

    def forward(self, x: Tensor, z: Tensor) -> LossTerms:
        """Compare a batch of vectors with the first numbers of its latents.

        Args:
            x: (B, D) vectors, B at least 3.
            z: (B, d) latents of the same rows.

        Returns:
            LossTerms of scalars.

        Raises:
            ValueError: as the loss.
        """
        check_batch(x, z)
        d_x, tau = self.loss.original(x)
        terms = [self.loss.compare(d_x, tau, z[:, :dim]) for dim in self.dims]
        total, rank, pairdist = (torch.stack(one).mean() for one in zip(*terms, strict=True))
        totals = torch.stack([one.total for one in terms])
        balance = _FIRST_BALANCE + self.progress * (_LAST_BALANCE - _FIRST_BALANCE)
        shares = totals.detach().clamp_min(torch.finfo(totals.dtype).eps) ** -balance
        shares[0] *= _SHORTEST
        shares[-1] *= _LONGEST
        pull = (shares * totals).sum()
        # The value is the mean's, the gradient the balanced one's.
        return LossTerms(total.detach() + (pull - pull.detach()), rank, pairdist)
