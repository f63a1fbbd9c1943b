"""Inception-v3 for FID and Inception Score, run once for both."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from metrics.errors import InputError
from metrics.weights import hub_file, provenance, read_state

if TYPE_CHECKING:
    from torch import nn


class Activations(NamedTuple):
    """The network's outputs for n images."""

    features: Tensor
    """The last pooling layer, float32 (n, 2048)."""
    logits: Tensor
    """Class logits without the bias, as Salimans et al. computed them: float32 (n, 1008)."""


class Inception:
    """The Inception-v3 of the FID paper (TensorFlow, 2015-12-05), as torch-fidelity ported it.

    Images are resized to 299 x 299 by TensorFlow 1's bilinear interpolation without antialiasing, as for the published
    results. Shared by two metrics, it runs once for each batch.

    Args:
        weights: A file in torch-fidelity's format; without one, torch.hub's cache or a download.
        device: Where it runs.
        network: Another network instead: uint8 (n, 3, height, width) -> (features, logits).
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        network: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.weights: dict[str, str] | None = None
        self._path = weights
        self._custom = self._network = network
        self._last: tuple[Tensor, Activations] | None = None

    def prepare(self) -> None:
        """Load the network, once.

        Raises:
            Unavailable: its weights are neither on this machine nor within reach.
            InputError: a file that does not hold this network's weights.
        """
        if self._network is None:
            # Imported late: with another network torch-fidelity is not needed.
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

            path = self._path if self._path is not None else hub_file(URL_INCEPTION_V3)
            self._network = _network(path).to(self.device)
            self.weights = provenance(path)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Activations:
        """Features and logits of uint8 images (n, 3, height, width), on the CPU."""
        if self._last is None or self._last[0] is not images:
            self.prepare()
            assert self._network is not None
            features, logits = self._network(images.to(self.device))
            self._last = (images, Activations(features.cpu(), logits.cpu()))
        return self._last[1]

    def features(self, images: Tensor) -> Tensor:
        """The features, for FID, (n, 2048)."""
        return self(images).features

    def logits(self, images: Tensor) -> Tensor:
        """The logits, for Inception Score, (n, 1008)."""
        return self(images).logits

    def release(self) -> None:
        """Free the network and the last batch."""
        self._network, self._last = self._custom, None


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
