"""Inception Score: is each image clear, and are they varied?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.special
import torch
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.inception import Inception
from metrics.metric import Metric
from metrics.moments import AllEqual
from metrics.resampling import MOST_IMAGES, Reservoir, jackknife

ENOUGH = 1000
ENOUGH_IN_A_SPLIT = 500


class InceptionScore(Metric):
    """exp(mean over the images of KL(p(y|x) || p(y))), the mean over splits (Salimans et al. 2016, arXiv:1606.03498).

    1 where the predictions are the same for every image, the number of classes where each is certain and all classes
    are equally frequent. Images are assigned to the splits at random, with a fixed seed, so that their order (sorted
    by class, or classes in turn) does not distort it. Computed in float64; only sums over classes are kept.

    Args:
        extractor: uint8 (n, 3, height, width) -> logits (n, classes); by default the shared Inception-v3's.
        inception: The network whose logits are used; one is made where neither it nor an extractor is given.
        weights: A file for that network; see `Inception`.
        device: Where that network runs.
        splits: The most splits; fewer where a split would have less than 500 images (1 below 1,000 images, 10 from
            5,000 on).
    """

    name = "inception_score"
    higher_is_better = True
    value_range = (1.0, 1008.0)
    floor = ENOUGH

    _sums: Tensor | None
    _negative_entropies: Tensor
    _counts: Tensor
    _random: np.random.Generator
    _pending: list[int]
    _sample: Reservoir
    _equal_images: AllEqual
    _equal_predictions: AllEqual

    def __init__(
        self,
        extractor: Callable[[Tensor], Tensor] | None = None,
        inception: Inception | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        splits: int = 10,
    ) -> None:
        if splits < 1:
            raise InputError(f"splits must be at least 1, got {splits}")
        self._inception: Inception | None = None
        if extractor is None:
            self._inception = inception or Inception(weights, device)
            extractor = self._inception.logits
        self._extractor = extractor
        self._splits = splits
        self.reset()

    def prepare(self) -> None:
        """Load the network; see `Metric.prepare`."""
        if self._inception:
            self._inception.prepare()

    def update(self, generated: Tensor, references: Tensor | None = None, prompts: Sequence[str] | None = None) -> None:
        """Add a batch; see `Metric.update`."""
        logs = self._extractor(generated).detach().cpu().double().log_softmax(dim=1)
        probabilities = logs.exp()
        if self._sums is None:
            self._sums = torch.zeros(self._splits, probabilities.shape[1], dtype=torch.float64)
        self._sample.add(probabilities.numpy())
        self._equal_images.add(generated.numpy(force=True))
        self._equal_predictions.add(probabilities.numpy())
        splits = torch.tensor([self._next_split() for _ in probabilities])
        self._sums.index_add_(0, splits, probabilities)
        # A probability of 0 times its logarithm, -inf, counts as 0.
        self._negative_entropies.index_add_(
            0, splits, torch.where(probabilities > 0, probabilities * logs, 0.0).sum(dim=1)
        )
        self._counts.index_add_(0, splits, torch.ones(len(probabilities), dtype=torch.float64))

    def _next_split(self) -> int:
        if not self._pending:
            self._pending = self._random.permutation(self._splits).tolist()
        return self._pending.pop()

    def compute(self) -> float:
        """The mean over the splits."""
        scores = self._scores()
        if not scores.isfinite().all():
            raise Unavailable("its network's predictions are not finite")
        return scores.mean().item()

    def says_nothing(self) -> str | None:
        """That the predictions are the same for different images; see `Metric.says_nothing`."""
        # Of equal images they are rightly the same: the score is that of a model that makes one image.
        same = self._equal_predictions.value and not self._equal_images.value
        return "its network predicts the same for all images" if same else None

    def extras(self) -> dict[str, float]:
        """inception_score_std, the standard deviation over the splits (0.0 of a single one)."""
        return {"inception_score_std": self._scores().std(unbiased=False).item()}

    def jackknife(self) -> np.ndarray | None:
        """Of a sample's score in one split; see `Metric.jackknife`."""
        count, sample = int(self._counts.sum()), self._sample.rows
        if count < 2:
            return None
        negative_entropies = scipy.special.xlogy(sample, sample).sum(axis=1)

        def without(kept: np.ndarray) -> float:
            marginal = sample[kept].mean(axis=0)
            return float(np.exp(negative_entropies[kept].mean() - scipy.special.xlogy(marginal, marginal).sum()))

        return jackknife(without, len(sample), count)

    def _scores(self) -> Tensor:
        images = int(self._counts.sum())
        if self._sums is None or not images:
            raise Unavailable("no images")
        splits = _affordable(self._splits, images)
        counts = self._counts.view(splits, -1).sum(dim=1)
        marginals = self._sums.view(splits, self._splits // splits, -1).sum(dim=1) / counts[:, None]
        conditional = self._negative_entropies.view(splits, -1).sum(dim=1) / counts
        # Rounding may leave a divergence slightly below 0.
        return (conditional - torch.special.xlogy(marginals, marginals).sum(dim=1)).clamp(min=0).exp()

    def notes(self) -> list[str]:
        """The number of images, and whether it suffices."""
        images = int(self._counts.sum())
        splits = _affordable(self._splits, images)
        note = f"inception_score: {images} images in {splits} split{'s' if splits > 1 else ''}"
        if images < ENOUGH:
            note += f"; below {ENOUGH} images it says little: it cannot exceed their number, and falls with it"
        return [note]

    def weights(self) -> dict[str, str] | None:
        """The network's file; see `Metric.weights`."""
        return self._inception.weights if self._inception else None

    def published_weights(self) -> str | None:
        """The network's; see `Metric.published_weights`."""
        return self._inception.published if self._inception else None

    def reset(self) -> None:
        """Forget the batches."""
        self._sums = None
        self._negative_entropies = torch.zeros(self._splits, dtype=torch.float64)
        self._counts = torch.zeros(self._splits, dtype=torch.float64)
        self._random = np.random.default_rng(0)
        self._pending = []
        self._sample = Reservoir(MOST_IMAGES)
        self._equal_images, self._equal_predictions = AllEqual(), AllEqual()

    def release(self) -> None:
        """Free the network."""
        if self._inception:
            self._inception.release()


def _affordable(splits: int, images: int) -> int:
    """The most splits that divide `splits` evenly and have enough images each."""
    most = max(1, images // ENOUGH_IN_A_SPLIT)
    return max(number for number in range(1, splits + 1) if splits % number == 0 and number <= most)
