"""CMMD: the maximum mean discrepancy of CLIP embeddings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.clip import CLIP
from metrics.features import Features
from metrics.mmd import MMD

_SIGMA = 10.0


class CMMD(MMD):
    """1000 * squared MMD of normalised CLIP embeddings, kernel exp(-|x - y|^2 / (2 * 10^2)) (Jayasumana et al. 2024).

    arXiv:2401.09603, eq. 4 with the biased estimate of the authors' code: pairs of an image with itself count. 0 for
    equal sets, at most 40, lower is better. The bias falls with the number of images: compare only values of equally
    many. The published values are of OpenAI's ViT-L/14 at 336 pixels (`model="ViT-L-14-336-quickgelu"`,
    `pretrained="openai"`); those of other models are not comparable with them.

    Args:
        model: `CLIP`'s model.
        pretrained: `CLIP`'s weights.
        device: Where it runs.
        clip: A model that is shared with other metrics, instead of the three above.
        extractor: Another model instead: uint8 (n, 3, height, width) -> embeddings (n, d) of any norm.
    """

    name = "cmmd"
    higher_is_better = False
    value_range = (0.0, 40.0)
    unbiased = False
    scale = 1000.0
    fewest = (1, 1)
    # As of KID; its bias is the same for all checkpoints that have as many images.
    floor = 20

    def __init__(
        self,
        model: str = "ViT-B-32",
        pretrained: str | Path = "laion2b_s34b_b79k",
        device: str | torch.device = "cpu",
        clip: CLIP | None = None,
        extractor: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if extractor is None:
            clip = clip or CLIP(model, pretrained, device)
            super().__init__(features=Features(clip.images, clip))
        else:
            super().__init__(extractor=extractor)

    def embedded(self, rows: np.ndarray) -> np.ndarray:
        """The embeddings of norm 1."""
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)

    def kernel(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """exp(-|x - y|^2 / (2 sigma^2)) of embeddings of norm 1; see `MMD.kernel`."""
        return np.exp((first @ second.T - 1) / _SIGMA**2)
