"""Inception Score: are single images clear, and all together varied?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.inception import Inception
from metrics.metric import Metric

ENOUGH = 1000
ENOUGH_IN_A_SPLIT = 500


class InceptionScore(Metric):
    """exp(mean over the images of KL(p(y|x) || p(y))), the mean over splits (Salimans et al. 2016, arXiv:1606.03498).

    1 where every image is given the same classes, the number of classes where all are sure and every class is as
    frequent. Images are dealt to the splits at random but in the same way each time, so that neither images sorted by
    class nor classes in turn distort it. Computed in float64; of the images only sums over classes are kept.

    Args:
        extractor: uint8 (n, 3, height, width) -> logits (n, classes); by default the shared Inception-v3's.
        inception: The network to take the logits of; one is made where neither it nor an extractor is given.
        weights: A file for that network; see `Inception`.
        device: Where that network runs.
        splits: The most splits. Fewer where a split would have less than 500 images: 1 below 1,000 images, 10 from
            5,000 up.
    """

    name = "inception_score"
    higher_is_better = True
    value_range = (1.0, 1008.0)

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
        self._inception = None if extractor else inception or Inception(weights, device)
        self._extractor = extractor or self._inception.logits
        self._splits = splits
        self.reset()

    def prepare(self) -> None:
        """Load the network; see `Metric.prepare`."""
        if self._inception:
            self._inception.prepare()

    def update(self, generated: Tensor, references: Tensor | None = None, prompts: Sequence[str] | None = None) -> None:
        """Take a batch; see `Metric.update`."""
        logs = self._extractor(generated).detach().cpu().double().log_softmax(dim=1)
        shares = logs.exp()
        if self._shares is None:
            self._shares = torch.zeros(self._splits, shares.shape[1], dtype=torch.float64)
        splits = torch.tensor([self._next_split() for _ in shares])
        self._shares.index_add_(0, splits, shares)
        # A share of 0 times its logarithm, -inf, counts as 0.
        self._negative_entropies.index_add_(0, splits, torch.where(shares > 0, shares * logs, 0.0).sum(dim=1))
        self._counts.index_add_(0, splits, torch.ones(len(shares), dtype=torch.float64))

    def _next_split(self) -> int:
        if not self._dealt:
            self._dealt = self._random.permutation(self._splits).tolist()
        return self._dealt.pop()

    def compute(self) -> float:
        """The mean over the splits."""
        return self._scores().mean().item()

    def extras(self) -> dict[str, float]:
        """inception_score_std, the standard deviation over the splits (0.0 of a single one)."""
        return {"inception_score_std": self._scores().std(unbiased=False).item()}

    def _scores(self) -> Tensor:
        images = int(self._counts.sum())
        if not images:
            raise Unavailable("no images")
        splits = _affordable(self._splits, images)
        counts = self._counts.view(splits, -1).sum(dim=1)
        marginals = self._shares.view(splits, self._splits // splits, -1).sum(dim=1) / counts[:, None]
        conditional = self._negative_entropies.view(splits, -1).sum(dim=1) / counts
        # Rounding may leave a divergence a hair below 0.
        return (conditional - torch.special.xlogy(marginals, marginals).sum(dim=1)).clamp(min=0).exp()

    def notes(self) -> list[str]:
        """How many images, and whether they are enough."""
        images = int(self._counts.sum())
        splits = _affordable(self._splits, images)
        note = f"inception_score: {images} images in {splits} split{'s' if splits > 1 else ''}"
        if images < ENOUGH:
            note += f"; below {ENOUGH} images it says little: it cannot exceed their number, and falls with it"
        return [note]

    def weights(self) -> dict[str, str] | None:
        """The network's file; see `Metric.weights`."""
        return self._inception.weights if self._inception else None

    def reset(self) -> None:
        """Forget the batches."""
        self._shares: Tensor | None = None
        self._negative_entropies = torch.zeros(self._splits, dtype=torch.float64)
        self._counts = torch.zeros(self._splits, dtype=torch.float64)
        self._random = np.random.default_rng(0)
        self._dealt: list[int] = []

    def release(self) -> None:
        """Let go of the network."""
        if self._inception:
            self._inception.release()


def _affordable(splits: int, images: int) -> int:
    """The most splits of equal size that `splits` can be joined to, with enough images in each."""
    most = max(1, images // ENOUGH_IN_A_SPLIT)
    return max(number for number in range(1, splits + 1) if splits % number == 0 and number <= most)
