"""Encoder: what all encoders share: mean and scale, and how arrays are encoded."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dploss.arguments import whole_number
from dploss.codes.code import BLOCK, Code
from dploss.errors import InputError, SettingError
from dploss.models.pca import PCA

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
        latent_metric: how latents of queries and rows are compared: "euclidean", or "ip", by their inner product.
    """

    mean: Tensor
    scale: Tensor
    latent_metric = "euclidean"

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
        return self._encode(
            lambda rows, size: self.truncate(self(rows), size), array, batch_size, dim, any_dim, input_name
        )

    def encode_queries(
        self,
        array: _Array,
        batch_size: int = 8192,
        dim: int | None = None,
        *,
        any_dim: bool = False,
        input_name: str = "queries",
    ) -> _Array:
        """Encode queries, which search among the latents of rows; see `encode`, which this is unless the sides differ.

        Args:
            array: (N, D), as for `encode`.
            batch_size: as for `encode`.
            dim: as for `encode`.
            any_dim: as for `encode`.
            input_name: what messages call the array.

        Returns:
            (N, dim) latents, to be compared with those of rows as `latent_metric` says.

        Raises:
            TypeError, ValueError: as `encode`.
        """
        return self.encode(array, batch_size, dim, any_dim=any_dim, input_name=input_name)

    def _encode(
        self,
        latents_of: Callable[[Tensor, int], Tensor],
        array: _Array,
        batch_size: int,
        dim: int | None,
        any_dim: bool,
        input_name: str,
    ) -> _Array:
        """What `encode` does, by `latents_of`: (n, D) rows and a size -> (n, size)."""
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
            batches = (self._to_input(array[start : start + batch_size]) for start in starts)
            latents = torch.cat([latents_of(batch, dim) for batch in batches])
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
