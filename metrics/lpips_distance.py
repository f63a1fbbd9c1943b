"""LPIPS: the perceptual distance of two images."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.extra import images_extra
from metrics.metric import MeanMetric
from metrics.weights import fill, hub_file, provenance, read_state

if TYPE_CHECKING:
    from torch import nn

# Smaller images end in a pooling layer with nothing left to pool.
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}
_PUBLISHED = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


class LPIPS(MeanMetric):
    """Learned perceptual distance of each image and its reference, the mean over the pairs (Zhang et al. 2018).

    arXiv:1801.03924, version 0.1 of its linear heads. 0 for equal images, rarely above 1, lower is better.

    Args:
        net: The backbone: "alex" (the authors' choice for evaluation), "vgg" or "squeeze".
        weights: A file of the backbone's ImageNet weights with torchvision's keys (`features.*`; others are ignored);
            None for torch.hub's cache or a download.
        device: Where it runs.
        distance: Another distance instead: two float32 batches (n, 3, height, width) within -1..1, first the
            generated images -> n values.
    """

    name = "lpips"
    higher_is_better = False
    value_range = (0.0, float("inf"))
    needs_pairs = True

    def __init__(
        self,
        net: str = "alex",
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        if net not in SMALLEST:
            raise InputError(f"LPIPS has the nets {', '.join(SMALLEST)}, not {net!r}")
        super().__init__()
        self._net, self._path, self._device = net, weights, torch.device(device)
        self._custom = self._distance = distance
        self._weights: dict[str, str] | None = None

    def prepare(self) -> None:
        """Load backbone and heads; see `Metric.prepare`."""
        if self._distance is None:
            with images_extra():
                path = self._path if self._path is not None else hub_file(_address(self._net))
                self._distance = _network(self._net, path).to(self._device)
            self._weights = provenance(path)

    def values(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> Tensor:
        """Distances, (n,)."""
        self.prepare()
        assert references is not None and self._distance is not None
        smallest = SMALLEST[self._net]
        if self._custom is None and min(generated.shape[2:]) < smallest:
            raise Unavailable(f"an image is smaller than the {smallest} x {smallest} pixels its net can see")
        with torch.inference_mode():
            first, second = (images.to(self._device) / 127.5 - 1 for images in (generated, references))
            return self._distance(first, second).reshape(len(generated)).cpu()

    def weights(self) -> dict[str, str] | None:
        """The backbone's file; see `Metric.weights`."""
        return self._weights

    def published_weights(self) -> str | None:
        """The backbone's; see `Metric.published_weights`."""
        return _PUBLISHED[self._net]

    def release(self) -> None:
        """Free the network."""
        self._distance = self._custom


def _address(net: str) -> str:
    """The address of torchvision's weights of the backbone."""
    from torchvision import models

    kinds = {"alex": models.AlexNet_Weights, "vgg": models.VGG16_Weights, "squeeze": models.SqueezeNet1_1_Weights}
    return kinds[net].IMAGENET1K_V1.url


def _network(net: str, path: str | Path) -> "nn.Module":
    """The `lpips` package's network with its own heads and the file's backbone."""
    import lpips

    state = read_state(path)
    # Without pnet_rand it would download. Its random weights are overwritten below; the caller's random state is kept.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    backbone = {}
    for key in network.net.state_dict():
        # The package groups torchvision's layers into slices and keeps their indices: features.3 is slice2.3.
        theirs = "features." + key.split(".", 1)[1]
        if theirs not in state:
            raise InputError(f"{path}: not the weights of {net}: no {theirs} in it")
        backbone[key] = state[theirs]
    fill(network.net, backbone, path)
    return network
