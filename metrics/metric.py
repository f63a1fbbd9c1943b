"""The interface of a metric: batches in, one value out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from metrics.errors import Unavailable
from metrics.resampling import jackknife, jackknife_error

if TYPE_CHECKING:
    from torch import Tensor


class Metric(ABC):
    """A value computed from images batch by batch, so that a folder of any size fits into memory.

    `update` takes a batch, `compute` returns the value, `reset` forgets the batches; `measure` does all three.

    Attributes:
        name: The key in reports.
        value_range: Its least and greatest possible value.
        higher_is_better: Its direction.
        needs_prompts: Whether every image needs its text.
        needs_pairs: Whether every image needs its own reference image.
        needs_references: Whether a set of reference images, of any number, is needed; it goes to `add_references`.
    """

    name: str
    value_range: tuple[float, float] = (-math.inf, math.inf)
    higher_is_better: bool
    needs_prompts: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_references: ClassVar[bool] = False

    def prepare(self) -> None:  # noqa: B027 -- a metric without a model has nothing to load
        """Load the model, once; it stays loaded until `release`.

        Raises:
            Unavailable: its weights are neither on this machine nor within reach, or a package is missing.
            InputError: a file of weights that cannot be used.
        """

    @abstractmethod
    def update(
        self, generated: "Tensor", references: "Tensor | None" = None, prompts: Sequence[str] | None = None
    ) -> None:
        """Take a batch.

        Args:
            generated: uint8, (n, 3, height, width).
            references: Each image's own reference, of the same shape; for metrics that need pairs.
            prompts: Each image's text, n of them; for metrics that need prompts.

        Raises:
            Unavailable: such images cannot be measured.
        """

    def add_references(self, references: "Tensor") -> None:
        """Take a batch of the set of references, uint8 (n, 3, height, width); where `needs_references`."""
        raise NotImplementedError(f"{type(self).__name__} takes no set of references")

    @abstractmethod
    def compute(self) -> float:
        """The value for all batches since the last reset.

        Raises:
            Unavailable: it is undefined for so few images.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget the batches; the model stays loaded."""

    @property
    def floor(self) -> int:
        """The fewest images from which the value means something; below, it is marked in reports."""
        return 1

    def jackknife(self) -> np.ndarray | None:
        """Values without each of several groups of images; None where they are unknown. After `compute`.

        They may lack what is the same for all of them. References and prompts are taken as given.
        """
        return None

    def standard_error(self, without_groups: np.ndarray) -> float:
        """How far the value would move with other images of the same model, from what `jackknife` gave."""
        return jackknife_error(without_groups)

    def extras(self) -> dict[str, float]:
        """Further values, under their own keys; after `compute`."""
        return {}

    def notes(self) -> list[str]:
        """What a reader must know to interpret the value, in sentences; after `compute`."""
        return []

    def weights(self) -> dict[str, str] | None:
        """{"source": path, "sha256": digest} of the file that the model was loaded from, where there is one."""
        return None

    def published_weights(self) -> str | None:
        """The file of weights that published values are of: its name ends in the first digits of its SHA-256.

        None where no file is the one, or the metric has no network of its own.
        """
        return None

    def says_nothing(self) -> str | None:
        """Why the value says nothing about the images, so that no composite score counts it; after `compute`.

        A network that says the same of all of them, say. None where it says something.
        """
        return None

    def release(self) -> None:  # noqa: B027 -- nor to free
        """Free the model; the next `prepare` loads it again."""

    def measure(
        self, generated: Any, references: Any = None, prompts: Sequence[str] | None = None, batch_size: int = 32
    ) -> float:
        """The value for images of any kind that `metrics.images.to_image` takes.

        Args:
            generated: The images, in any form that `ImageEvaluator.evaluate` takes, as are the other arguments.
            references: Reference images: one for each image, or a set.
            prompts: A text for each image.
            batch_size: The most images in a batch.

        Raises:
            Unavailable: it cannot be computed from these inputs.
            InputError: images that cannot be used.
        """
        # Imported late: they load torch, which `import metrics` does not wait for.
        from metrics.references import References
        from metrics.streaming import missing, stream

        references = References.of(references, generated)
        reason = missing(self, references, prompts)
        if reason:
            raise Unavailable(reason)
        self.prepare()
        self.reset()
        stream([self], generated, references, prompts, batch_size)
        return self.compute()


class MeanMetric(Metric):
    """A metric that is the mean of one value per image."""

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def values(self, generated: "Tensor", references: "Tensor | None", prompts: Sequence[str] | None) -> "Tensor":
        """One value per image, (n,); the arguments are `update`'s."""

    def update(
        self, generated: "Tensor", references: "Tensor | None" = None, prompts: Sequence[str] | None = None
    ) -> None:
        """Add the batch's values; see `Metric.update`."""
        self._values += self.values(generated, references, prompts).double().tolist()

    def compute(self) -> float:
        """The mean over the images."""
        if not self._values:
            raise Unavailable("no images")
        return math.fsum(self._values) / len(self._values)

    def jackknife(self) -> np.ndarray | None:
        """See `Metric.jackknife`."""
        values = np.array(self._values)
        return jackknife(lambda kept: float(values[kept].mean()), len(values)) if len(values) > 1 else None

    def standard_error(self, without_groups: np.ndarray) -> float:
        """The values' standard deviation, divided by the square root of their number; surer than by groups of them."""
        return float(np.std(self._values, ddof=1) / len(self._values) ** 0.5)

    def reset(self) -> None:
        """Forget the batches."""
        self._values: list[float] = []
