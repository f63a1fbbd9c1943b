"""The encoder of vectors: a linear path initialised from PCA, an MLP branch initialised to 0, and the norm restored."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.arguments import whole_number
from dploss.codes.code import BLOCK, Code
from dploss.errors import InputError, SettingError
from dploss.losses.units import power_of_two
from dploss.models.layers import EqualizedLinear, SharedDropout
from dploss.models.pca import PCA

# With Adam at its usual lr of 0.001: a relative step of 2 %, measured best (docs/QUALITY.md).
_WEIGHT_SIZE = 0.05
# Measured, too: the share of the norm power that is restored in training. The norm that is left out has to come from
# the projection, which so stays near the directions of most variance.
_TRAINING_SHARE = 0.75
_Array = TypeVar("_Array", np.ndarray, Tensor)


class Encoder(nn.Module):
    """Base of the encoders: standardises by the mean and scale of the training rows, and encodes arrays.

    Mean and scale are buffers, so that the weights see values near 1 whatever the units of the vectors, and the latents
    are in those units again. A new encoder has mean 0 and scale 1.

    Args:
        input_dim: D, dimensions of a vector.
        latent_dim: d, dimensions of a latent.
        dims: the sizes that a Matryoshka encoder is trained for; d is always one.

    Attributes:
        dims: the sizes that it is trained for, ascending; d is the last.
        code: how the latents are stored; None where they were not trained to be stored in few bytes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, input_dim: int, latent_dim: int, dims: Sequence[int] = ()) -> None:
        super().__init__()
        self.input_dim = whole_number("input_dim", input_dim, 1)
        self.latent_dim = whole_number("latent_dim", latent_dim, 1)
        sizes = {whole_number("dims", dim, 1, self.latent_dim) for dim in dims}
        self.dims = tuple(sorted({*sizes, self.latent_dim}))
        self.code: Code | None = None
        self.register_buffer("mean", torch.zeros(self.input_dim))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def standardize(self, pca: PCA) -> None:
        """Take mean and scale from a PCA of the training rows; the weights are not changed."""
        self.mean.copy_(torch.from_numpy(pca.mean))
        self.scale.fill_(pca.scale)

    @torch.no_grad()
    def encode(
        self,
        array: _Array,
        batch_size: int = 8192,
        dim: int | None = None,
        *,
        any_dim: bool = False,
        input_name: str = "array",
    ) -> _Array:
        """Encode vectors, without gradients, in evaluation mode.

        Args:
            array: (N, D), NumPy or torch, of a floating or integer dtype, on any device; finite; it is not changed.
            batch_size: rows at a time, at least 1.
            dim: truncate the latents to their first `dim` dimensions, norm restored (see `truncate`): one of `dims`,
                which a Matryoshka encoder has several of; d if None.
            any_dim: allow any dim, 1..d, also one that the encoder was not trained for.
            input_name: what messages call the array.

        Returns:
            (N, dim) latents of the same kind: NumPy or torch, dtype and device as given, but float32 for integers. They
            are computed in the encoder's precision and on its device.

        Raises:
            TypeError: array is no array of numbers.
            ValueError: array is not of shape (N, D), a value is NaN or infinite in the encoder's precision, batch_size
                is below 1, or a dim that is not allowed.
        """
        if not _is_real(array):
            kind = array.dtype if isinstance(array, np.ndarray | Tensor) else type(array).__name__
            raise TypeError(f"{input_name} must be a NumPy array or a tensor of real numbers, got {kind}")
        if array.ndim != 2 or array.shape[1] != self.input_dim:
            raise ValueError(f"{input_name} must have shape (rows, {self.input_dim}), got {tuple(array.shape)}")
        batch_size = whole_number("batch_size", batch_size, 1)
        dim = self.checked_dim(dim, any_dim)
        was_training = self.training
        self.eval()
        try:
            starts = range(0, max(len(array), 1), batch_size)
            batches = (self(self._to_input(array[start : start + batch_size])) for start in starts)
            latents = torch.cat([self.truncate(batch, dim) for batch in batches])
        finally:
            self.train(was_training)
        self._check_finite(input_name, array, latents)
        if isinstance(array, Tensor):
            return latents.to(array.device, array.dtype if array.is_floating_point() else torch.float32)
        return latents.numpy(force=True).astype(array.dtype if array.dtype.kind == "f" else np.float32)

    def encode_to_codes(self, rows: np.ndarray, *, input_name: str = "rows") -> np.ndarray:
        """Encode vectors and store them by `code`: the same bytes for a row in any batch.

        Args:
            rows: (N, D), any floating dtype.
            input_name: what messages call them.

        Returns:
            (N, code.bytes_per_vector) uint8.

        Raises:
            TypeError, ValueError: rows as `encode` refuses them, or an encoder without a code.
        """
        if self.code is None:
            raise SettingError("the encoder has no code: train one with {bytes}")
        count = len(rows) if isinstance(rows, np.ndarray) and rows.ndim == 2 else 0
        if count % BLOCK:
            # Products of matrices of one shape: those of another may round otherwise.
            rows = np.concatenate([rows, np.repeat(rows[-1:], -count % BLOCK, axis=0)])
        latents = self.encode(rows, batch_size=BLOCK, input_name=input_name)
        return self.code.encode(latents[:count].astype(np.float32))

    def checked_dim(self, dim: int | None, any_dim: bool = False) -> int:
        """The size that latents are truncated to.

        Args:
            dim: one of `dims`; d if None.
            any_dim: allow any of 1..d.

        Raises:
            SettingError: another one.
        """
        if dim is None:
            return self.latent_dim
        dim = whole_number("dim", dim, 1, self.latent_dim)
        if dim not in self.dims and not any_dim:
            sizes = ", ".join(map(str, self.dims))
            trained = f"{sizes}, the only size" if len(self.dims) == 1 else f"one of {sizes}, the sizes"
            template = (
                f"{{dim}} must be {trained} that the encoder was trained for, got {dim}; {{any_dim}} allows others"
            )
            raise SettingError(template)
        return dim

    def truncate(self, latents: Tensor, dim: int, norm_share: float = 1.0) -> Tensor:
        """(..., d) latents -> (..., dim), their first dimensions; `norm_share` is for encoders that restore norms."""
        return latents[..., :dim]

    def _check_finite(self, name: str, array: np.ndarray | Tensor, latents: Tensor) -> None:
        """Refuse values that are not finite; their latents, which are fewer, are not finite either.

        Raises:
            InputError: there is one; the message names the first.
        """
        # A sum is one pass, and its overflow costs no more than a second look.
        if latents.sum().isfinite():
            return
        odd_rows = (~latents.isfinite().all(dim=1)).nonzero()
        if not len(odd_rows):
            return
        row = int(odd_rows[0])
        values = self._to_input(array[row : row + 1])[0]
        odd = (~values.isfinite()).nonzero()
        if len(odd):
            dtype = str(values.dtype).removeprefix("torch.")
            value = f"row {row}, dimension {int(odd[0])} is {values[odd[0]].item()} as {dtype}"
            raise InputError(f"{name}: {value}; every value must be finite")

    def _to_input(self, rows: np.ndarray | Tensor) -> Tensor:
        if isinstance(rows, np.ndarray):
            # A copy: rows may be read-only or of a dtype that torch lacks.
            with np.errstate(over="ignore"):
                rows = torch.from_numpy(np.array(rows, dtype=np.float32))
        return rows.to(self.mean)


def _is_real(array: object) -> bool:
    """Whether this is an array of floating-point numbers or integers."""
    if isinstance(array, Tensor):
        return not (array.is_complex() or array.dtype == torch.bool)
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiu"


class DPEncoder(Encoder):
    """Encoder of vectors: a linear path, an MLP branch beside it, and the norm of the vector restored.

    z = scale * y * (|u| / |y|)^norm_power with u = (x - mean) / scale and y = linear(u) + branch(u).

    Why restore norms: a projection shortens rows unevenly, each by what it drops of it. Rows that became short lie near
    the mean, and so near everything: they are hubs, neighbours of all others. With norm_power 1 every latent is as far
    from 0 as its vector is from the mean; 0 leaves y as it is. The exponent is the buffer `length_power`; in training
    mode it is `training_share` of that, three quarters unless set otherwise.

    A new encoder has random weights and norm_power 0.

    Args:
        input_dim: D, dimensions of a vector.
        hidden_dims: widths of the branch's hidden layers. Without any there is no branch: the encoder is linear, and
            restores no norms.
        latent_dim: d, dimensions of a latent.
        metric: "euclidean", or "cosine", which normalises every vector first.
        dropout: probability of dropping a hidden unit of the branch in training, 0 <= dropout < 1.
        dims: the sizes that a Matryoshka encoder is trained for, see `Encoder`.

    Raises:
        ValueError: an argument outside its range.
    """

    length_power: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int] = (768,),
        latent_dim: int = 512,
        metric: str = "euclidean",
        dropout: float = 0.0,
        dims: Sequence[int] = (),
    ) -> None:
        super().__init__(input_dim, latent_dim, dims)
        if metric not in ("euclidean", "cosine"):
            raise SettingError("{metric} must be euclidean or cosine, got {value!r}", value=metric)
        self.hidden_dims = tuple(whole_number("hidden_dims", width, 1) for width in hidden_dims)
        self.metric = str(metric)
        self.dropout = float(dropout)
        self.linear = EqualizedLinear(self.input_dim, self.latent_dim, _WEIGHT_SIZE)
        widths = [self.input_dim, *self.hidden_dims, self.latent_dim]
        self.branch = _mlp(widths, self.dropout) if self.hidden_dims else None
        self.register_buffer("length_power", torch.zeros(()))
        self.training_share = _TRAINING_SHARE

    def initialize_from_pca(self, pca: PCA) -> None:
        """Initialise the linear path with the PCA projection, and the branch's last layer with 0."""
        self.standardize(pca)
        self.linear.set_matrix(torch.from_numpy(pca.components))
        if self.branch is not None:
            last = cast(EqualizedLinear, self.branch[-1])
            last.set_matrix(torch.zeros_like(last.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., d) latents."""
        if self.metric == "cosine":
            # Near 1 first, so that no square leaves the range of the dtype.
            largest = x.abs().amax(dim=-1, keepdim=True)
            x = F.normalize(x / largest.clamp_min(torch.finfo(x.dtype).tiny), dim=-1)
        u = (x - self.mean) / self.scale
        y = self.linear(u)
        if self.branch is None:
            return y * self.scale
        power = self.length_power * self.training_share if self.training else self.length_power
        return _restore_norm(y + self.branch(u), u, power) * self.scale

    def truncate(self, latents: Tensor, dim: int, norm_share: float = 1.0) -> Tensor:
        """Matryoshka truncation: the first dimensions of the latents, norm restored as far as the encoder does.

        latents[:, :dim] * (|latents| / |latents[:, :dim]|)^(norm_power * norm_share)

        Args:
            latents: (..., d).
            dim: 1..d.
            norm_share: share of the encoder's norm_power, 0 to 1; the Matryoshka loss restores less than `encode`.

        Returns:
            (..., dim).
        """
        # Unlike in `forward`, the latents may have any unit.
        unit = power_of_two(latents.abs().amax(dim=-1, keepdim=True))
        whole = latents / unit
        return _restore_norm(whole[..., :dim], whole, self.length_power * norm_share) * unit


def _restore_norm(projected: Tensor, original: Tensor, power: Tensor) -> Tensor:
    """Scale each row to projected * (|original| / |projected|)^power: its full norm at power 1, unchanged at 0."""
    least = torch.finfo(projected.dtype).eps
    norms = (v.norm(dim=-1, keepdim=True).clamp_min(least) for v in (original, projected))
    return projected * torch.div(*norms) ** power


def _mlp(widths: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [EqualizedLinear(before, after, _WEIGHT_SIZE), nn.GELU(), SharedDropout(dropout)]
    return nn.Sequential(*layers[:-2])
