"""The encoder: a linear path that starts at PCA, an MLP branch that starts at nothing, and lengths given back."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.models.pca import PCA

# With Adam at its usual lr of 0.001: a relative step of 2 %, measured best (docs/QUALITY.md).
_WEIGHT_SIZE = 0.05


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are all of one size: y = (weight @ x / sqrt(input_dim) + bias) / size.

    Adam moves every weight by about its learning rate, whatever the gradient's size. With weights of one size that is
    the same small relative step, lr / size, at any width, so one --lr serves them all, and a start at PCA is refined
    instead of shaken off. Karras et al., arXiv:1710.10196, section 4.1, "equalized learning rate".

    Args:
        input_dim: numbers in.
        output_dim: numbers out.
        size: of the weights, above 0.
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
        """Become the projection x -> matrix @ x, for a (output_dim, input_dim) matrix."""
        self.weight.copy_(matrix * (self.size / self.gain))
        self.bias.zero_()


class SharedDropout(nn.Dropout):
    """Dropout of a batch that several processes share: each draws for all rows, and takes its own.

    With the same random state everywhere, the rows lose the numbers that they would lose in one process.

    Attributes:
        rank: of this process.
        size: how many there are, each with as many rows.
    """

    rank, size = 0, 1

    def forward(self, x: Tensor) -> Tensor:
        """(b, n) -> (b, n)."""
        if self.size == 1 or not self.training:
            return super().forward(x)
        kept = super().forward(torch.ones(self.size * len(x), x.shape[1], dtype=x.dtype, device=x.device))
        return x * kept[self.rank * len(x) : (self.rank + 1) * len(x)]


class Encoder(nn.Module):
    """What every encoder has: the mean and the scale of its training rows, and a way to encode arrays.

    Mean and scale are buffers, so the weights see numbers near 1 whatever the units of the vectors, and the latents
    keep those units. Fresh from the constructor the mean is 0 and the scale 1.

    Args:
        input_dim: D, numbers in a vector.
        latent_dim: d, numbers in a latent.
    """

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def standardize(self, pca: PCA) -> None:
        """Take mean and scale from the training rows' PCA; the weights stay as they are."""
        self.mean.copy_(torch.from_numpy(pca.mean))
        self.scale.fill_(pca.scale)

    @torch.no_grad()
    def encode(self, array: np.ndarray | Tensor, batch_size: int = 8192, dim: int | None = None) -> np.ndarray | Tensor:
        """Shorten vectors, without gradients, in evaluation mode.

        Args:
            array: (N, D), NumPy or torch, any floating dtype, on any device; it is not changed.
            batch_size: rows at a time, at least 1.
            dim: shorten to the first so many numbers, 1..d, each brought back to length (see `cut`); d if None. Of a
                Matryoshka encoder each size that it was trained for is a good code.

        Returns:
            (N, dim) latents of the same kind: NumPy or torch, dtype and device as given. They are computed in the
            encoder's own precision and on its own device.

        Raises:
            TypeError: not an array of floating-point numbers.
            ValueError: not of shape (N, D), a batch_size below 1, or a dim outside 1..d.
        """
        floating = (
            array.is_floating_point()
            if isinstance(array, Tensor)
            else isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.floating)
        )
        if not floating:
            kind = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"array must be a NumPy array or a tensor of floating-point numbers, got {kind}")
        if array.ndim != 2 or array.shape[1] != self.input_dim:
            raise ValueError(f"array must have shape (rows, {self.input_dim}), got {tuple(array.shape)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        dim = self.latent_dim if dim is None else dim
        if not 1 <= dim <= self.latent_dim:
            raise ValueError(f"dim must be within 1 and {self.latent_dim}, got {dim}")
        was_training = self.training
        self.eval()
        try:
            starts = range(0, max(len(array), 1), batch_size)
            batches = (self(self._to_input(array[start : start + batch_size])) for start in starts)
            latents = torch.cat([self.cut(batch, dim) for batch in batches])
        finally:
            self.train(was_training)
        if isinstance(array, Tensor):
            return latents.to(array)
        return latents.numpy(force=True).astype(array.dtype)

    def cut(self, latents: Tensor, dim: int, length_share: float = 1.0) -> Tensor:
        """(..., d) latents -> their first `dim` numbers; an encoder that gives lengths back uses the share."""
        return latents[..., :dim]

    def _to_input(self, rows: np.ndarray | Tensor) -> Tensor:
        if isinstance(rows, np.ndarray):
            # A copy: rows may be read-only or of a dtype that torch lacks.
            rows = torch.from_numpy(np.array(rows, dtype=np.float32))
        return rows.to(self.mean)


class DPEncoder(Encoder):
    """z = scale * y * (|u| / |y|)^length_power with y = linear(u) + branch(u), u = (x - mean) / scale.

    A projection keeps the directions of rows better than their distances: it shortens every row by what it drops, some
    rows more than others, and the shortened ones become everybody's neighbours. So each latent gets its vector's
    distance from the mean back, wholly (length_power 1) or in part.

    Fresh from the constructor the weights are random.

    Args:
        input_dim: D, numbers in a vector.
        hidden_dims: widths of the branch's hidden layers; none of them makes the encoder linear, for then there is no
            branch, and length_power stays 0.
        latent_dim: d, numbers in a latent.
        metric: "euclidean", or "cosine": every vector is brought to length 1 first.
        dropout: share of the branch's hidden numbers that are dropped in training, 0 to below 1.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int] = (768,),
        latent_dim: int = 512,
        metric: str = "euclidean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(input_dim, latent_dim)
        self.hidden_dims = tuple(hidden_dims)
        self.metric = metric
        self.dropout = dropout
        self.linear = EqualizedLinear(input_dim, latent_dim, _WEIGHT_SIZE)
        self.branch = _mlp([input_dim, *hidden_dims, latent_dim], dropout) if hidden_dims else None
        self.register_buffer("length_power", torch.zeros(()))

    def start_at(self, pca: PCA) -> None:
        """Become that PCA: its projection on the linear path, and a branch whose last layer is 0."""
        self.standardize(pca)
        self.linear.set_matrix(torch.from_numpy(pca.components))
        if self.branch is not None:
            self.branch[-1].set_matrix(torch.zeros_like(self.branch[-1].weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., d) latents."""
        if self.metric == "cosine":
            x = F.normalize(x, dim=-1)
        u = (x - self.mean) / self.scale
        y = self.linear(u)
        if self.branch is None:
            return y * self.scale
        return _lengthen(y + self.branch(u), u, self.length_power) * self.scale

    def cut(self, latents: Tensor, dim: int, length_share: float = 1.0) -> Tensor:
        """Shorten latents to their first numbers, and give each its length back as far as the encoder does.

        With a length_power of 1 that is latents[:, :dim] * (|latents| / |latents[:, :dim]|)^length_share.

        Args:
            latents: (..., d).
            dim: 1..d.
            length_share: of the encoder's length_power, 0 to 1; in training less is given back than in use.

        Returns:
            (..., dim).
        """
        return _lengthen(latents[..., :dim], latents, self.length_power * length_share)


def _lengthen(short: Tensor, long: Tensor, power: Tensor) -> Tensor:
    """Bring `short` to the length of `long`, as far as `power` says: short * (|long| / |short|)^power."""
    least = torch.finfo(short.dtype).eps
    lengths = (v.norm(dim=-1, keepdim=True).clamp_min(least) for v in (long, short))
    return short * torch.div(*lengths) ** power


def _mlp(widths: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [EqualizedLinear(before, after, _WEIGHT_SIZE), nn.GELU(), SharedDropout(dropout)]
    return nn.Sequential(*layers[:-2])
