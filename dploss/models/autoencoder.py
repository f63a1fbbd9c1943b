"""Encoder and decoder of images: linear paths initialised from PCA, convolutions beside them."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from dploss.arguments import whole_number
from dploss.models.base import Encoder
from dploss.models.layers import EqualizedLinear
from dploss.models.pca import PCA

_CHANNELS = (32, 64, 64)
_SHRINK = 2 ** len(_CHANNELS)


class ConvAutoencoder(Encoder):
    """z = scale * (linear(u) + branch(u)) with u = (x - mean) / scale, and a decoder of the same form.

    Args:
        image_size: S, height and width in pixels, a multiple of 8.
        latent_dim: d, dimensions of a latent.

    Raises:
        ValueError: image_size is no multiple of 8.
    """

    def __init__(self, image_size: int, latent_dim: int) -> None:
        image_size = whole_number("image_size", image_size, 0)
        if image_size < _SHRINK or image_size % _SHRINK:
            raise ValueError(f"image_size must be a multiple of {_SHRINK}, got {image_size}")
        super().__init__(3 * image_size**2, latent_dim)
        latent_dim = self.latent_dim
        self.image_size = image_size
        side = image_size // _SHRINK
        flat = _CHANNELS[-1] * side**2
        self.linear = EqualizedLinear(self.input_dim, latent_dim)
        self.branch = nn.Sequential(
            nn.Unflatten(-1, (3, image_size, image_size)), *_downward(), nn.Flatten(), EqualizedLinear(flat, latent_dim)
        )
        self.linear_back = EqualizedLinear(latent_dim, self.input_dim)
        self.branch_back = nn.Sequential(
            EqualizedLinear(latent_dim, flat),
            nn.GELU(),
            nn.Unflatten(-1, (_CHANNELS[-1], side, side)),
            *_upward(),
            nn.Flatten(),
        )

    def initialize_from_pca(self, pca: PCA) -> None:
        """Initialise the linear paths with the PCA projection and its transpose, the branches' last layers with 0."""
        self.standardize(pca)
        components = torch.from_numpy(pca.components)
        self.linear.set_matrix(components)
        self.linear_back.set_matrix(components.T)
        last = cast(EqualizedLinear, self.branch[-1])
        last.set_matrix(torch.zeros_like(last.weight))
        last_back = cast(nn.ConvTranspose2d, self.branch_back[-2])
        for parameter in last_back.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3 * S * S) images, channels first, 0..1 -> (N, d) latents."""
        u = (x - self.mean) / self.scale
        return self.scale * (self.linear(u) + self.branch(u))

    def decode(self, z: Tensor) -> Tensor:
        """(N, d) latents -> (N, 3 * S * S) reconstructions; values slightly outside 0..1 occur."""
        v = z / self.scale
        return self.mean + self.scale * (self.linear_back(v) + self.branch_back(v))


def _downward() -> list[nn.Module]:
    """Convolutions that halve height and width at every layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise((3, *_CHANNELS)):
        layers += [nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), nn.GELU()]
    return layers


def _upward() -> list[nn.Module]:
    """Transposed convolutions that double height and width at every layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise((*_CHANNELS[::-1], 3)):
        layers += [nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1), nn.GELU()]
    return layers[:-1]
