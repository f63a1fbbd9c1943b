"""The encoder of vectors: a linear path initialised from PCA, an MLP branch initialised to 0, and the norm restored."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dploss.arguments import whole_number
from dploss.errors import SettingError
from dploss.losses.units import power_of_two
from dploss.models.base import Encoder
from dploss.models.layers import EqualizedLinear, LogGain, SharedDropout
from dploss.models.pca import PCA

# With Adam at its usual lr of 0.001: a relative step of 2 %, measured best (docs/QUALITY.md).
WEIGHT_SIZE = 0.05
# Measured, too: the share of the norm power that is restored in training. The norm that is left out has to come from
# the projection, which so stays near the directions of most variance.
_TRAINING_SHARE = 0.85


class DPEncoder(Encoder):
    """Encoder of vectors: a linear path, an MLP branch beside it, and the norm of the vector restored.

    z = scale * gain * y * (|u| / |y|)^norm_power with u = (x - mean) / scale, y = linear(u) + branch(u) and
    gain = exp(log_gain(u)), which depends on the direction of u alone.

    Why restore norms: a projection shortens rows unevenly, each by what it drops of it. Rows that became short lie near
    the mean, and so near everything: they are hubs, neighbours of all others. With norm_power 1 every latent is as far
    from 0 as its vector is from the mean; 0 leaves y as it is. Above 1, rows of which much is dropped are moved beyond
    that: what was dropped of two rows is less alike than what was kept of them, so such rows are still too near. The
    exponent is the buffer `length_power`; in training mode it is `training_share` of that, 0.85 unless set otherwise.

    The gain is learned, as norms that are restored leave the weights of y no say in them; in use latents keep the mean
    norm of the vectors (`keep_mean_norm`). It is 1 in a new encoder, which has random weights and norm_power 0.

    Args:
        input_dim: D, dimensions of a vector.
        hidden_dims: widths of the branch's hidden layers. Without any there is no branch: the encoder is linear,
            restores no norms and has no gain.
        latent_dim: d, dimensions of a latent.
        metric: "euclidean", or "cosine", which normalises every vector first.
        dropout: probability of dropping a hidden unit of the branch in training, 0 <= dropout < 1.
        dims: the sizes that a Matryoshka encoder is trained for, see `Encoder`.

    Raises:
        ValueError: an argument outside its range.
    """

    metrics: tuple[str, ...] = ("euclidean", "cosine")
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
        if metric not in self.metrics:
            raise SettingError("{metric} must be {known}, got {value!r}", known=" or ".join(self.metrics), value=metric)
        self.hidden_dims = tuple(whole_number("hidden_dims", width, 1) for width in hidden_dims)
        self.metric = str(metric)
        self.dropout = float(dropout)
        self.linear = EqualizedLinear(self.reduced_dim, self.latent_dim, WEIGHT_SIZE)
        self.branch = self.new_branch()
        self.log_gain = self.new_log_gain()
        self.register_buffer("length_power", torch.zeros(()))
        self.training_share = _TRAINING_SHARE

    @property
    def reduced_dim(self) -> int:
        """Dimensions of what linear path and branch see of a vector."""
        return self.input_dim

    def new_branch(self) -> nn.Sequential | None:
        """An MLP of the hidden layers, with random weights; None without any."""
        if not self.hidden_dims:
            return None
        layers: list[nn.Module] = []
        for before, after in pairwise([self.reduced_dim, *self.hidden_dims, self.latent_dim]):
            layers += [EqualizedLinear(before, after, WEIGHT_SIZE), nn.GELU(), SharedDropout(self.dropout)]
        return nn.Sequential(*layers[:-2])

    def new_log_gain(self) -> LogGain | None:
        """The learned gain's logarithm; None where there is no branch."""
        return LogGain(self.reduced_dim, WEIGHT_SIZE) if self.hidden_dims else None

    def initialize_from_pca(self, pca: PCA) -> None:
        """Initialise the linear path with the PCA projection, and the branch's last layer with 0."""
        self.standardize(pca)
        initialize_paths(self.linear, self.branch, torch.from_numpy(pca.components))

    @torch.no_grad()
    def keep_mean_norm(self, rows: np.ndarray) -> None:
        """Set the offset of the gain: latents are as far from 0, on average, as their rows are from the mean.

        Encoders without a gain, and rows or latents that are all 0, change nothing.

        Args:
            rows: (n, D).
        """
        if self.log_gain is None:
            return
        x = torch.from_numpy(rows).to(self.mean)
        wanted, latents = self.as_compared(x) - self.mean, self.encode(x)
        ratio = (wanted / self.scale).norm(dim=1).mean() / (latents / self.scale).norm(dim=1).mean()
        if ratio.isfinite() and ratio > 0:
            self.log_gain.offset += ratio.log()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) vectors -> (..., d) latents."""
        return self._reduce((self.as_compared(x) - self.mean) / self.scale)

    def as_compared(self, x: Tensor) -> Tensor:
        """(..., D) vectors as the metric compares them: normalised under cosine."""
        if self.metric != "cosine":
            return x
        # Near 1 first, so that no square leaves the range of the dtype.
        largest = x.abs().amax(dim=-1, keepdim=True)
        return F.normalize(x / largest.clamp_min(torch.finfo(x.dtype).tiny), dim=-1)

    def _reduce(self, u: Tensor) -> Tensor:
        """(..., D) standardised vectors -> (..., d) latents."""
        y = self.linear(u)
        if self.branch is None:
            return y * self.scale
        power = self.length_power * self.training_share if self.training else self.length_power
        restored = _restore_norm(y + self.branch(u), u, power) * self.scale
        if self.log_gain is None:
            return restored
        return restored * _precise(self.log_gain(u)).exp().to(u.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Encoders that were saved before there was a gain are loaded without one."""
        if not any(name.startswith(f"{prefix}log_gain.") for name in state_dict):
            self.log_gain = None
        super()._load_from_state_dict(state_dict, prefix, *args)

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
    return projected * (_precise(torch.div(*norms)) ** _precise(power)).to(projected.dtype)


def _precise(v: Tensor) -> Tensor:
    """In float64: vectorised powers of float32 have other last digits than those of a batch's last rows."""
    return v if v.device.type == "mps" else v.double()


def initialize_paths(linear: EqualizedLinear, branch: nn.Sequential | None, projection: Tensor) -> None:
    """Set a linear path to a (d, D) projection, and the last layer of the branch beside it to 0."""
    linear.set_matrix(projection)
    if branch is not None:
        last = cast(EqualizedLinear, branch[-1])
        last.set_matrix(torch.zeros_like(last.weight))
