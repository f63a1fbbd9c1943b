"""The encoder: a linear path that starts at PCA, and an MLP branch that starts at nothing."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.baselines import PCA
from dploss.checkpoints import load_checkpoint
from dploss.errors import InputError


class DPEncoder(nn.Module):
    """z = scale * (linear(u) + branch(u)) with u = (x - mean) / scale.

    The mean and the scale of the training rows are buffers, so the weights see numbers near 1 whatever the units of
    the vectors, and the latents keep those units. Fresh from the constructor all layers have PyTorch's own start,
    mean 0 and scale 1.

    Args:
        input_dim: D, numbers in a vector.
        hidden_dims: widths of the branch's hidden layers; none of them makes the encoder linear.
        latent_dim: d, numbers in a latent.
        metric: "euclidean", or "cosine": every vector is brought to length 1 first.
    """

    def __init__(
        self, input_dim: int, hidden_dims: Sequence[int] = (768,), latent_dim: int = 512, metric: str = "euclidean"
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.latent_dim = latent_dim
        self.metric = metric
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(()))
        self.linear = nn.Linear(input_dim, latent_dim)
        self.branch = _mlp([input_dim, *hidden_dims, latent_dim]) if hidden_dims else None

    @torch.no_grad()
    def standardize(self, pca: PCA) -> None:
        """Take mean and scale from the training rows' PCA; the weights stay as they are."""
        self.mean.copy_(torch.from_numpy(pca.mean))
        self.scale.fill_(pca.scale)

    @torch.no_grad()
    def start_at(self, pca: PCA) -> None:
        """Become that PCA: its projection on the linear path, and a branch whose last layer is 0."""
        self.standardize(pca)
        self.linear.weight.copy_(torch.from_numpy(pca.components))
        self.linear.bias.zero_()
        if self.branch is not None:
            self.branch[-1].weight.zero_()
            self.branch[-1].bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., d) latents."""
        if self.metric == "cosine":
            x = F.normalize(x, dim=-1)
        u = (x - self.mean) / self.scale
        z = self.linear(u)
        if self.branch is not None:
            z = z + self.branch(u)
        return z * self.scale

    @torch.no_grad()
    def encode(self, array: np.ndarray | Tensor, batch_size: int = 8192) -> np.ndarray | Tensor:
        """Shorten vectors, without gradients, in evaluation mode.

        Args:
            array: (N, D), NumPy or torch, any floating dtype, on any device; it is not changed.
            batch_size: rows at a time, at least 1.

        Returns:
            (N, d) latents of the same kind: NumPy or torch, dtype and device as given. They are computed in the
            encoder's own precision and on its own device.

        Raises:
            TypeError: not an array of floating-point numbers.
            ValueError: not of shape (N, D), or a batch_size below 1.
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
        was_training = self.training
        self.eval()
        try:
            starts = range(0, max(len(array), 1), batch_size)
            latents = torch.cat([self(self._to_input(array[start : start + batch_size])) for start in starts])
        finally:
            self.train(was_training)
        if isinstance(array, Tensor):
            return latents.to(array)
        return latents.numpy(force=True).astype(array.dtype)

    def _to_input(self, rows: np.ndarray | Tensor) -> Tensor:
        if isinstance(rows, np.ndarray):
            # A copy: rows may be read-only or of a dtype that torch lacks.
            rows = torch.from_numpy(np.array(rows, dtype=np.float32))
        return rows.to(self.mean)


def load_encoder(path: str | Path) -> DPEncoder:
    """Rebuild the encoder from any `.pth` (or best.pt) of an experiment.

    Args:
        path: the checkpoint.

    Returns:
        The encoder on the CPU, in evaluation mode.

    Raises:
        InputError: no file there, not a checkpoint of ours, or weights that do not fit its config.
    """
    checkpoint = load_checkpoint(path)
    try:
        config = checkpoint["config"]
        encoder = DPEncoder(config["input_dim"], config["hidden_dims"], config["latent_dim"], config["metric"])
        encoder.load_state_dict(checkpoint["model_state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: weights and config do not make an encoder: {error}") from error
    return encoder.eval()


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])
