"""Matryoshka: one encoder, trained so that the first numbers of its latents are good codes themselves."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dploss.losses.distance_preserving import DPLoss, LossTerms, check_batch

# Measured (docs/QUALITY.md): so no size loses more than 0.02 of recall against an encoder of its own.
_LENGTH_SHARE = 0.5
_BALANCE, _SHORTEST = 0.75, 2.5


class MatryoshkaLoss(nn.Module):
    """A loss of the family on the first numbers of the latents, for several sizes at once.

    The terms are means over the sizes. Short codes lose much more than long ones, and their gradients would drown the
    rest, so each size's gradient is divided by a power of its loss. The shortest code weighs more, which has no other
    inside it that helps.

    A code is cut from the latents with half of its length given back (a power of one half). Where none is, its numbers
    grow until they keep the distances alone, and leave the longer codes no room. Where all is, as when it is used,
    nothing says how long it should be beside the numbers that follow.

    Source: Kusupati et al., arXiv:2205.13147, with distances in place of labels.

    Args:
        loss: the member of the family.
        dims: the sizes, ascending, each at most the latents' own.
        cut: what shortens latents to a size, and gives so much of their lengths back: `Encoder.cut`.
    """

    def __init__(self, loss: DPLoss, dims: Sequence[int], cut: Callable[[Tensor, int, float], Tensor]) -> None:
        super().__init__()
        self.loss = loss
        self.dims = tuple(dims)
        self.cut = cut

    def forward(self, x: Tensor, z: Tensor) -> LossTerms:
        """Compare a batch of vectors with its latents, cut to each size.

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
        terms = [self.loss.compare(d_x, tau, self.cut(z, dim, _LENGTH_SHARE)) for dim in self.dims]
        total, rank, pairdist = (torch.stack(one).mean() for one in zip(*terms, strict=True))
        totals = torch.stack([one.total for one in terms])
        shares = totals.detach().clamp_min(torch.finfo(totals.dtype).eps) ** -_BALANCE
        shares[0] *= _SHORTEST
        pull = (shares * totals).mean()
        # The value is the mean's, the gradient the balanced one's.
        return LossTerms(total.detach() + (pull - pull.detach()), rank, pairdist)
