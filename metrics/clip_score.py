"""CLIP score: does the image show what the text says?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.clip import CLIP
from metrics.metric import MeanMetric

Embed = Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]


class CLIPScore(MeanMetric):
    """2.5 * max(cos(image, text), 0), the mean over the pairs, clipped at 1: range 0..1 (Hessel et al. 2021).

    arXiv:2104.08718. The texts are used as given; to follow the paper exactly, prefix each with "A photo depicts". A
    model reads only the first 77 tokens of a text. Scores of different models are not comparable.

    Args:
        model: `CLIP`'s model.
        pretrained: `CLIP`'s weights.
        device: Where it runs.
        embed: Another model instead: uint8 images (n, 3, height, width), n texts -> embeddings of the images and of
            the texts, (n, d) each, of any norm.
        clip: A model that is shared with other metrics, instead of the three above.
    """

    name = "clip_score"
    higher_is_better = True
    value_range = (0.0, 1.0)
    needs_prompts = True

    def __init__(
        self,
        model: str = "ViT-B-32",
        pretrained: str | Path = "laion2b_s34b_b79k",
        device: str | torch.device = "cpu",
        embed: Embed | None = None,
        clip: CLIP | None = None,
    ) -> None:
        super().__init__()
        self._clip: CLIP | None = None
        if embed is None:
            self._clip = clip or CLIP(model, pretrained, device)
        self._embed = embed or self._clip_embed

    def prepare(self) -> None:
        """Load the model; see `Metric.prepare`."""
        if self._clip:
            self._clip.prepare()

    def values(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> Tensor:
        """The score of each pair, (n,); it may exceed 1."""
        assert prompts is not None, "needs_prompts"
        with torch.inference_mode():
            images, texts = self._embed(generated, prompts)
            return 2.5 * F.cosine_similarity(images.float(), texts.float()).clamp(min=0).cpu()

    def _clip_embed(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        assert self._clip is not None
        return self._clip.images(images), self._clip.texts(texts)

    def compute(self) -> float:
        """The mean over the pairs, at most 1."""
        return min(1.0, super().compute())

    def weights(self) -> dict[str, str] | None:
        """The model's file; see `Metric.weights`."""
        return self._clip.weights if self._clip else None

    def release(self) -> None:
        """Free the model."""
        if self._clip:
            self._clip.release()
