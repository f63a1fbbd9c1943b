"""Inception-v3 for Inception Score and the metrics that compare sets of features."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metrics.errors import InputError
from metrics.model import SharedModel
from metrics.weights import hub_file, read_state

if TYPE_CHECKING:
    from torch import nn


Network = Callable[[Tensor], tuple[Tensor, Tensor]]


class Activations(NamedTuple):
    """The network's outputs for n images."""

    features: Tensor
    """The last pooling layer, float32 (n, 2048)."""
    logits: Tensor
    """Class logits without the bias, as Salimans et al. computed them: float32 (n, 1008)."""


class Inception(SharedModel[Network]):
    """The Inception-v3 of the FID paper (TensorFlow, 2015-12-05), as torch-fidelity ported it.

    Images are resized to 299 x 299 by TensorFlow 1's bilinear interpolation without antialiasing, as for the published
    results.

    Args:
        weights: A file in torch-fidelity's format; without one, torch.hub's cache or a download.
        device: Where it runs.
        network: Another network instead: uint8 (n, 3, height, width) -> (features, logits).
    """

    published = "weights-inception-2015-12-05-6726825d.pth"

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        network: Network | None = None,
    ) -> None:
        super().__init__(device, network)
        self._path = weights

    def _load(self) -> tuple[Network, Path]:
        # Imported late: with another network torch-fidelity is not needed.
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        path = Path(self._path) if self._path is not None else hub_file(URL_INCEPTION_V3)
        return _network(path).to(self.device), path

    def _run(self, network: Network, images: Tensor) -> Activations:
        features, logits = network(images.to(self.device))
        return Activations(features.cpu(), logits.cpu())

    def features(self, images: Tensor) -> Tensor:
        """The features of uint8 images (n, 3, height, width), on the CPU: (n, 2048)."""
        return self(images).features

    def logits(self, images: Tensor) -> Tensor:
        """The logits, for Inception Score, on the CPU: (n, 1008)."""
        return self(images).logits


def _network(path: str | Path) -> "nn.Module":
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    state = read_state(path)
    # The extractor reads its file with weights_only=False, and downloads one if it gets none: it gets the tensors that
    # were read safely, as a file in memory.
    safe = io.BytesIO()
    torch.save(state, safe)
    safe.seek(0)
    with torch.random.fork_rng(devices=[]):
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], safe)
        except RuntimeError as error:
            raise InputError(f"{path}: not the weights of Inception-v3 ({str(error)[:200]})") from error
    return network
