"""A network that several metrics share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from metrics.errors import Unavailable
from metrics.extra import images_extra
from metrics.weights import provenance

Network = TypeVar("Network")


class SharedModel(ABC, Generic[Network]):
    """A network that is loaded once and runs once for each batch, however many metrics use it.

    Where its weights are out of reach it remembers that until `release`, as finding out may take a network's timeout.

    Args:
        device: Where it runs.
        network: Another network instead of the one with weights.

    Attributes:
        weights: {"source": path, "sha256": digest} of the file that was loaded, where there is one.
        published: The file of weights that published values are of; see `metrics.Metric.published_weights`.
    """

    published: ClassVar[str | None] = None

    def __init__(self, device: str | torch.device, network: Network | None = None) -> None:
        self.device = torch.device(device)
        self.weights: dict[str, str] | None = None
        self._custom, self._network = network, network
        self._out_of_reach: str | None = None
        self._last: tuple[Tensor, Any] | None = None

    @abstractmethod
    def _load(self) -> tuple[Network, Path]:
        """The network, and the file that its weights are from."""

    @abstractmethod
    def _run(self, network: Network, images: Tensor) -> Any:
        """What the network says of uint8 images (n, 3, height, width)."""

    def prepare(self) -> Network:
        """Load the network, once, and return it.

        Raises:
            Unavailable: its weights are neither on this machine nor within reach, or a package is missing.
            InputError: a file that does not hold this network's weights.
        """
        if self._out_of_reach is not None:
            raise Unavailable(self._out_of_reach)
        if self._network is None:
            try:
                with images_extra():
                    self._network, path = self._load()
            except Unavailable as reason:
                self._out_of_reach = str(reason)
                raise
            self.weights = provenance(path)
        return self._network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Any:
        """What the network says of uint8 images (n, 3, height, width); of the last batch it is remembered."""
        if self._last is None or self._last[0] is not images:
            self._last = images, self._run(self.prepare(), images)
        return self._last[1]

    def release(self) -> None:
        """Free the network and the last batch."""
        self._network, self._last, self._out_of_reach = self._custom, None, None
