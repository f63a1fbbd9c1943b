"""Layers of the encoders."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are all of one size: y = (weight @ x / sqrt(input_dim) + bias) / size.

    Adam moves every weight by about its learning rate, whatever the gradient's size. With weights of one size that is
    the same small relative step, lr / size, at any width: one --lr serves all of them, and an initialisation from PCA
    is refined instead of lost. Karras et al., arXiv:1710.10196, section 4.1, "equalized learning rate".

    Args:
        input_dim: dimensions of the input.
        output_dim: dimensions of the output.
        size: standard deviation of the initial weights, above 0.
    """

    def __init__(self, input_dim: int, output_dim: int, size: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(size * torch.randn(output_dim, input_dim))
        self.bias = nn.Parameter(torch.zeros(output_dim))
        self.gain = input_dim**-0.5
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        return F.linear(x * self.gain, self.weight, self.bias) / self.size

    @torch.no_grad()
    def set_matrix(self, matrix: Tensor) -> None:
        """Set the layer to the projection x -> matrix @ x, for an (output_dim, input_dim) matrix."""
        self.weight.copy_(matrix * (self.size / self.gain))
        self.bias.zero_()


class LogGain(EqualizedLinear):
    """The logarithm of a learned gain of norms, linear in a row's direction, so that no row is too far for it.

    Args:
        input_dim: dimensions of a row.
        size: see `EqualizedLinear`; a new one is 0 for all rows.

    Attributes:
        offset: added in evaluation mode: the loss fits ranks by latents of any size, and in use their size is kept.
    """

    offset: Tensor

    def __init__(self, input_dim: int, size: float) -> None:
        super().__init__(input_dim, 1, size)
        self.set_matrix(torch.zeros_like(self.weight))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) rows, of any norm -> (..., 1)."""
        # A sum for each row: the product with a single column rounds by a row's place in the batch.
        direction = F.normalize(x, dim=-1)
        log_gain = ((direction * self.weight[0]).sum(dim=-1, keepdim=True) + self.bias) / self.size
        return log_gain if self.training else log_gain + self.offset


class SharedDropout(nn.Dropout):
    """Dropout of a batch sharded over processes: each draws the mask of the whole batch and applies its own rows of it.

    With the same random state in every process, the mask is the one that a single process would draw.

    Attributes:
        rank: index of this process, 0..size - 1.
        size: number of processes, all with shards of equal size.
    """

    rank, size = 0, 1

    def forward(self, x: Tensor) -> Tensor:
        """(b, n) -> (b, n)."""
        if self.size == 1 or not self.training:
            return super().forward(x)
        kept = super().forward(torch.ones(self.size * len(x), x.shape[1], dtype=x.dtype, device=x.device))
        return x * kept[self.rank * len(x) : (self.rank + 1) * len(x)]
