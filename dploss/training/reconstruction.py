"""Held-out images through the autoencoder and back: metrics of the reconstructions, and files to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dploss.config import TrainConfig
from dploss.data.images import Images, as_image, comparison, metrics_errors
from dploss.data.split import evenly_spaced
from dploss.files.atomic import atomic_write
from dploss.models.autoencoder import ConvAutoencoder
from metrics import ImageEvaluator

SAMPLES = "evaluation_samples"
# As many are shown in TensorBoard.
_SHOWN = 4


class Reconstruction:
    """Reconstructs the same held-out images at every evaluation.

    Args:
        autoencoder: the one that is trained.
        images: all images.
        held_out_index: indices of those that are held out, at least one.
        config: how many to reconstruct, and the weights of the metrics' models.

    Attributes:
        samples: the images that are reconstructed, evenly spaced among the held-out ones.
    """

    def __init__(
        self, autoencoder: ConvAutoencoder, images: Images, held_out_index: np.ndarray, config: TrainConfig
    ) -> None:
        self.autoencoder = autoencoder
        self.samples = choose_samples(images, held_out_index, config.num_evaluation_samples)
        self._evaluator = ImageEvaluator(
            device=str(autoencoder.mean.device),
            clip_model=config.clip_model,
            clip_pretrained=config.clip_pretrained,
            lpips_net=config.lpips_net,
            lpips_weights=config.lpips_weights,
            inception_weights=config.inception_weights,
            dinov2_weights=config.dinov2_weights,
        )

    def evaluate(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Reconstruct the samples.

        Returns:
            (n, 3 * S * S) float32 reconstructions within 0..1, and the report of `metrics.ImageEvaluator`.

        Raises:
            InputError: a file of weights that cannot be used.
        """
        with torch.no_grad():
            latents = torch.from_numpy(self.autoencoder.encode(self.samples.rows)).to(self.autoencoder.mean)
            reconstructed = self.autoencoder.decode(latents).clamp(0, 1).numpy(force=True)
        with metrics_errors():
            metrics = self._evaluator.evaluate(
                torch.from_numpy(self._as_images(reconstructed)),
                torch.from_numpy(self._as_images(self.samples.rows)),
                self.samples.captions if any(self.samples.captions) else None,
            )
        return reconstructed, metrics

    def _as_images(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(-1, 3, self.samples.image_size, self.samples.image_size)

    def save(self, reconstructed: np.ndarray, folder: Path) -> Mapping[str, Image.Image]:
        """Replace the images of the last evaluation.

        Args:
            reconstructed: as `evaluate` returned them.
            folder: of the experiment; they lie in its evaluation_samples/.

        Returns:
            Some comparisons, the originals as references, by the tags that TensorBoard shows them under.
        """
        folder = folder / SAMPLES
        folder.mkdir(exist_ok=True)
        size = self.samples.image_size
        shown = {}
        for number, (row, original) in enumerate(zip(reconstructed, self.samples.rows, strict=True)):
            generated = as_image(row, size)
            compared = comparison(as_image(original, size), generated)
            for name, image in (("generated", generated), ("comparison", compared)):
                with atomic_write(folder / f"eval_{name}_{number:03d}.jpg") as file:
                    image.save(file, "JPEG", quality=95)
            caption = self.samples.captions[number]
            if caption is not None:
                with atomic_write(folder / f"eval_prompt_{number:03d}.txt") as file:
                    file.write(caption.encode())
            if number < _SHOWN:
                shown[f"Samples/{number:03d}"] = compared
        return shown


def choose_samples(images: Images, held_out_index: np.ndarray, n_samples: int) -> Images:
    """Up to `n_samples` held-out images, evenly spaced."""
    index = held_out_index[evenly_spaced(len(held_out_index), n_samples)]
    captions = tuple(images.captions[row] for row in index)
    return Images(images.rows[index], images.source, images.fingerprint, captions, images.image_size)
