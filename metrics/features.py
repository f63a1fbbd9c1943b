"""Features of all generated images and of all references, and the metrics that compare the two sets."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.errors import Unavailable
from metrics.inception import Inception
from metrics.metric import Metric
from metrics.model import SharedModel
from metrics.moments import AllEqual, Moments
from metrics.resampling import Reservoir, few_of, jackknife

# Rows of features that are kept of a set, at most; of a larger one, a uniform sample.
MOST_ROWS = 5000


class FeatureSet:
    """The features of a set of images: mean and covariance of all, and a sample of the rows."""

    def __init__(self) -> None:
        self.moments, self.equal, self._sample = Moments(), AllEqual(), Reservoir(MOST_ROWS)

    @property
    def count(self) -> int:
        """The number of images."""
        return self.moments.count

    def rows(self) -> np.ndarray:
        """The features of at most `MOST_ROWS` images, float64 (n, d)."""
        return self._sample.rows

    def add(self, rows: np.ndarray) -> None:
        """Take a batch, (n, d)."""
        self.moments.add(rows)
        self.equal.add(rows)
        self._sample.add(rows)


class Features:
    """Generated images and references as sets of features, for all metrics that share it.

    Args:
        extractor: uint8 (n, 3, height, width) -> features (n, d).
        model: The network behind it, which is then loaded and freed with the metrics.

    Attributes:
        generated: The features of the generated images.
        references: The features of the references.
        references_key: Which references these are, where that is known; see `SetMetric.keep_references`.
    """

    def __init__(self, extractor: Callable[[Tensor], Tensor], model: SharedModel | None = None) -> None:
        self.model, self._extractor = model, extractor
        self._last: Tensor | None = None
        self._handed_on: set[SetMetric] = set()
        self.reset()

    def add(self, images: Tensor, metric: "SetMetric", to: FeatureSet) -> None:
        """Take a batch that each of the metrics hands on; it counts once."""
        if images is not self._last or metric in self._handed_on:
            self._last, self._handed_on = images, set()
            to.add(self._extractor(images).detach().cpu().numpy())
        self._handed_on.add(metric)

    def reset(self) -> None:
        """Forget both sets."""
        self.references = FeatureSet()
        self.references_key: str | None = None
        self.reset_generated()

    def reset_generated(self) -> None:
        """Forget the generated images."""
        self.generated = FeatureSet()
        self._last = None


class SetMetric(Metric):
    """A metric that compares the features of the generated images, as a set, with those of the references.

    Args:
        extractor: uint8 (n, 3, height, width) -> features (n, d); by default the shared Inception-v3's, d = 2048.
        inception: The network whose features are used; one is made where neither it nor an extractor is given.
        weights: A file for that network; see `Inception`.
        device: Where that network runs.
        features: Sets that are shared with other metrics, instead of the four above.
    """

    needs_references = True
    # The fewest images and references that it is defined for.
    fewest = (2, 2)

    def __init__(
        self,
        extractor: Callable[[Tensor], Tensor] | None = None,
        inception: Inception | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        features: Features | None = None,
    ) -> None:
        if features is None and extractor is not None:
            features = Features(extractor)
        elif features is None:
            inception = inception or Inception(weights, device)
            features = Features(inception.features, inception)
        self.features = features

    @abstractmethod
    def value(self) -> float:
        """The value of the two sets, which have enough images."""

    @abstractmethod
    def statistic(self, generated: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
        """The value as a function of the indices of the generated images that are kept; see `jackknife`.

        Args:
            generated: Features, float64 (n, d).
            references: Features, float64 (m, d).
        """

    def prepare(self) -> None:
        """Load the network; see `Metric.prepare`."""
        if self.features.model:
            self.features.model.prepare()

    def update(self, generated: Tensor, references: Tensor | None = None, prompts: Sequence[str] | None = None) -> None:
        """Add a batch of generated images; the references go to `add_references`."""
        self.features.add(generated, self, self.features.generated)

    def add_references(self, references: Tensor) -> None:
        """Add a batch of the references, uint8 (n, 3, height, width)."""
        self.features.add(references, self, self.features.references)

    def compute(self) -> float:
        """The value; see `Metric.compute`."""
        images, references = self.fewest
        if self.features.generated.count < images or self.features.references.count < references:
            raise Unavailable(f"it needs at least {images} images and {references} references")
        if not all(np.isfinite(of.moments.mean).all() for of in (self.features.generated, self.features.references)):
            raise Unavailable("its network's features are not finite")
        return self.value()

    def says_nothing(self) -> str | None:
        """That the features of all images and references are the same; see `Metric.says_nothing`."""
        generated, references = self.features.generated, self.features.references
        same = (
            generated.equal.value
            and references.equal.value
            and np.array_equal(*(of.rows()[0] for of in (generated, references)))
        )
        return "its network's features are the same for all images and references" if same else None

    def jackknife(self) -> np.ndarray | None:
        """Without groups of the generated images, for these references; see `Metric.jackknife`."""
        count = self.features.generated.count
        if count <= self.fewest[0]:
            return None
        rows = few_of(self.features.generated.rows())
        statistic = self.statistic(rows, self.features.references.rows())
        return jackknife(statistic, len(rows), count)

    def notes(self) -> list[str]:
        """That a sample of the images was compared, where it was."""
        most = max(self.features.generated.count, self.features.references.count)
        return [f"{self.name}: of {MOST_ROWS} images of a set, drawn evenly"] if most > MOST_ROWS else []

    def weights(self) -> dict[str, str] | None:
        """The network's file; see `Metric.weights`."""
        return self.features.model.weights if self.features.model else None

    def published_weights(self) -> str | None:
        """The network's; see `Metric.published_weights`."""
        return self.features.model.published if self.features.model else None

    def reset(self) -> None:
        """Forget the batches."""
        self.features.reset()

    def keep_references(self, key: str | None) -> bool:
        """Forget the generated images alone, if the references are known to be those of this key; whether they are."""
        if key is None or self.features.references_key != key:
            return False
        self.features.reset_generated()
        return True

    def release(self) -> None:
        """Free the network; the features of the references stay."""
        if self.features.model:
            self.features.model.release()
