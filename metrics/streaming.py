"""Drive metrics over images, one batch in memory at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from metrics.errors import InputError, Unavailable
from metrics.images import as_sequence, batches, resized, to_image
from metrics.metric import Metric
from metrics.references import References

Refuse = Callable[[Metric, Unavailable], None]


def missing(metric: Metric, references: References | None, prompts: Sequence[str] | None) -> str | None:
    """What the metric needs and was not given, as a reason; None where nothing is missing."""
    if metric.needs_prompts and prompts is None:
        return "it needs prompts"
    if (metric.needs_references or metric.needs_pairs) and references is None:
        return "it needs references"
    if metric.needs_pairs and references.pairs is None:
        return references.why_unpaired
    return None


@torch.inference_mode()
def stream(
    metrics: Iterable[Metric],
    generated: Any,
    references: References | None,
    prompts: Sequence[str] | None,
    batch_size: int,
    progress: Callable[[int], object] = lambda images: None,
    refuse: Refuse | None = None,
) -> None:
    """Give every batch to every metric: the generated images, then the set of references.

    Args:
        metrics: They were given all that they need.
        generated: Images of any kind; those of the references that are pairs are brought to their sizes.
        references: What they are compared with.
        prompts: A text for each generated image.
        batch_size: The most images in a batch.
        progress: Called with the number of images after each batch.
        refuse: Called when a metric says that it cannot measure such images; it gets no further batches. Without it
            the exception goes on.

    Raises:
        InputError: no images, images that cannot be used, or another number of prompts than of images.
        Unavailable: see `refuse`.
    """
    generated, active = as_sequence(generated), list(metrics)
    if not len(generated):
        raise InputError("no images")
    if prompts is not None and len(prompts) != len(generated):
        raise InputError(f"{len(generated)} images but {len(prompts)} prompts")

    def give(metric: Metric, *batch: Any) -> None:
        try:
            metric.update(*batch)
        except Unavailable as reason:
            if refuse is None:
                raise
            active.remove(metric)
            refuse(metric, reason)

    for places, images in batches(generated, batch_size):
        pairs = None
        if any(metric.needs_pairs for metric in active):
            own = [to_image(references.pairs[place], f"of the references, {place}") for place in places]
            pairs = torch.stack([resized(image, *images.shape[2:]) for image in own])
        texts = None if prompts is None else [prompts[place] for place in places]
        for metric in list(active):
            give(metric, images, pairs, texts)
        progress(len(places))
    takers = [metric for metric in active if metric.needs_references]
    if takers:
        for places, images in batches(references.everything, batch_size, "of the references, "):
            for metric in takers:
                metric.add_references(images)
            progress(len(places))
