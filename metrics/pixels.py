"""Metrics that compare an image with its reference pixel by pixel: no model, no weights."""

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from torch import Tensor

from metrics.errors import Unavailable
from metrics.extra import images_extra
from metrics.metric import MeanMetric

CAP = 100.0
WINDOW = 11


class _PixelMetric(MeanMetric):
    """A metric of torchmetrics."""

    def prepare(self) -> None:
        """Import torchmetrics; see `Metric.prepare`."""
        with images_extra():
            import_module("torchmetrics")


class PSNR(_PixelMetric):
    """Peak signal-to-noise ratio in decibels, 10 log10(255^2 / mean squared error), the mean over the images.

    Each image's value is capped at 100 dB: that of equal images is infinite, and a single one would make the mean
    infinite. 0 dB is black against white.
    """

    name = "psnr"
    higher_is_better = True
    value_range = (0.0, CAP)
    needs_pairs = True

    def values(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> Tensor:
        """Decibels per image, (n,)."""
        # Imported late, here and below: the import takes seconds.
        from torchmetrics.functional.image import peak_signal_noise_ratio

        assert references is not None, "needs_pairs"
        ratios = peak_signal_noise_ratio(
            generated.double(), references.double(), data_range=255.0, reduction="none", dim=(1, 2, 3)
        )
        return ratios.clamp(0, CAP)


class SSIM(_PixelMetric):
    """Structural similarity in a Gaussian window of 11 x 11 pixels, the mean over the images (Wang et al. 2004).

    1 for equal images, near 0 for unrelated ones, -1 at least.
    """

    name = "ssim"
    higher_is_better = True
    value_range = (-1.0, 1.0)
    needs_pairs = True

    def values(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> Tensor:
        """Similarity per image, (n,)."""
        if min(generated.shape[2:]) < WINDOW:
            raise Unavailable(f"an image is smaller than its window of {WINDOW} x {WINDOW} pixels")
        from torchmetrics.functional.image import structural_similarity_index_measure

        assert references is not None, "needs_pairs"
        similarity = structural_similarity_index_measure(
            generated.float(), references.float(), data_range=255.0, reduction="none"
        )
        return cast(Tensor, similarity).reshape(len(generated))
