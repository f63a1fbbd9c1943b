"""The Frechet distance of DINOv2 features, from a file of weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import InputError
from metrics.features import Features
from metrics.fid import FID
from metrics.model import SharedModel
from metrics.weights import fill, read_state

if TYPE_CHECKING:
    from torch import nn

_SIZE = 224
# ImageNet's.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# By the width of the class token.
_SIZES = {384: "small", 768: "base", 1024: "large", 1536: "giant"}


class DINOv2(SharedModel[Callable[[Tensor], Tensor]]):
    """A DINOv2 vision transformer of timm; the weights say which.

    Args:
        weights: A .pth file of the authors (dinov2_vitl14_pretrain.pth) or of timm.
        device: Where it runs.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self._path = Path(weights)

    def _load(self) -> tuple[Callable[[Tensor], Tensor], Path]:
        return _network(self._path).to(self.device), self._path

    def _run(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        pixels = images.to(self.device).float() / 255
        pixels = F.interpolate(pixels, (_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (_MEAN, _STD))
        return network((pixels - mean) / std).float().cpu()


class FDDINOv2(FID):
    """The Frechet distance of DINOv2's class tokens (Stein et al. 2023, arXiv:2306.04675); otherwise as FID.

    It agrees with people on which images look real more often than an FID does. The published values are of ViT-L/14.
    timm resizes the position embeddings with antialiasing, the authors' code without: values differ slightly.

    Args:
        weights: `DINOv2`'s weights.
        device: Where it runs.
        extractor: Another model instead: uint8 (n, 3, height, width) -> features (n, d).
    """

    name = "fd_dinov2"
    _features_of_default = 1024

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        extractor: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if extractor is None and weights is None:
            raise InputError("fd_dinov2 needs a file of DINOv2 weights")
        if extractor is not None:
            super().__init__(extractor=extractor)
        elif weights is not None:
            model = DINOv2(weights, device)
            super().__init__(features=Features(model, model))


def _network(path: Path) -> "nn.Module":
    """The transformer whose weights the file has, without a classifier."""
    import timm
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    state = read_state(path)
    width = state["cls_token"].shape[-1] if "cls_token" in state else None
    if width not in _SIZES:
        raise InputError(f"{path}: not the weights of a DINOv2 (no class token of width {', '.join(map(str, _SIZES))})")
    registers = "_reg4" if {"register_tokens", "reg_token"} & state.keys() else ""
    with torch.random.fork_rng(devices=[]):
        name = f"vit_{_SIZES[width]}_patch14{registers}_dinov2"
        network = cast(VisionTransformer, timm.create_model(name, pretrained=False, num_classes=0, img_size=_SIZE))
    fill(network, checkpoint_filter_fn(state, network), path)
    return network.eval()
