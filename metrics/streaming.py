"""Feed images to metrics, one batch in memory at a time."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from metrics.errors import InputError, Unavailable
from metrics.images import as_sequence, batches, resized, to_image
from metrics.references import OF_REFERENCES, References


class Streamed(Protocol):
    """The part of a `metrics.Metric` that takes batches; see there."""

    needs_prompts: ClassVar[bool]
    needs_pairs: ClassVar[bool]
    needs_references: ClassVar[bool]

    def update(self, generated: Tensor, references: Tensor | None, prompts: Sequence[str] | None) -> None:
        """Take a batch."""

    def add_references(self, references: Tensor) -> None:
        """Take a batch of the set of references."""


def missing(
    metric: Streamed,
    references: References | None,
    prompts: Sequence[str] | None,
    why_no_prompts: str = "it needs prompts",
) -> str | None:
    """Which input the metric needs and was not given, as a reason; None where nothing is missing."""
    if metric.needs_prompts and prompts is None:
        return why_no_prompts
    if metric.needs_references or metric.needs_pairs:
        if references is None:
            return "it needs references"
        if metric.needs_pairs and references.pairs is None:
            return references.why_unpaired
    return None


@torch.inference_mode()
def stream(
    metrics: Iterable[Streamed],
    generated: Any,
    references: References | None,
    prompts: Sequence[str] | None,
    batch_size: int,
    *,
    with_references: Collection[Streamed] = (),
    progress: Callable[[int], object] = lambda images: None,
    on_unavailable: Callable[[Any, Unavailable], object] | None = None,
) -> None:
    """Give every batch to every metric: first the generated images, then the set of references.

    Args:
        metrics: None of them lacks an input; see `missing`.
        generated: Images of any kind that `metrics.images.to_image` takes.
        references: What they are compared with; pairs are resized to the generated images.
        prompts: A text for each generated image.
        batch_size: The most images in a batch.
        with_references: Those of the metrics that have the set of references already.
        progress: Called with the number of images after each batch.
        on_unavailable: Called with the metric and the reason when one cannot measure such images; it gets no further
            batches. Without it the exception is raised.

    Raises:
        InputError: no images, images that cannot be used, or another number of prompts than of images.
        Unavailable: see `on_unavailable`.
    """
    generated, active = as_sequence(generated), list(metrics)
    if not len(generated):
        raise InputError("no images")
    if prompts is not None and len(prompts) != len(generated):
        raise InputError(f"{len(generated)} images but {len(prompts)} prompts")
    everything, pairs_of = (references.everything, references.pairs) if references else ((), None)

    for indices, images in batches(generated, batch_size):
        pairs = None
        if pairs_of is not None and any(metric.needs_pairs for metric in active):
            own = [to_image(pairs_of[index], f"{OF_REFERENCES}{index}") for index in indices]
            pairs = torch.stack([resized(image, *images.shape[2:]) for image in own])
        texts = None if prompts is None else [prompts[index] for index in indices]
        for metric in list(active):
            try:
                metric.update(images, pairs, texts)
            except Unavailable as reason:
                if on_unavailable is None:
                    raise
                active.remove(metric)
                on_unavailable(metric, reason)
        progress(len(indices))
    comparing = [metric for metric in active if metric.needs_references and metric not in with_references]
    if comparing:
        for indices, images in batches(everything, batch_size, OF_REFERENCES):
            for metric in comparing:
                metric.add_references(images)
            progress(len(indices))
