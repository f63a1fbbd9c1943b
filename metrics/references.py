"""Reference images: a set, and, where it is known, each generated image's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metrics.images import as_sequence


@dataclass(frozen=True)
class References:
    """What generated images are compared with.

    Attributes:
        everything: The set, for FID.
        pairs: Each generated image's own reference, in their order; None where there are no pairs.
        why_unpaired: Where `pairs` is None: why.
    """

    everything: Sequence[Any]
    pairs: Sequence[Any] | None
    why_unpaired: str = ""

    @classmethod
    def of(cls, references: Any, generated: Any) -> "References | None":
        """References as `ImageEvaluator.evaluate` takes them; of as many images as were generated they are pairs."""
        if references is None or isinstance(references, cls):
            return references
        references, wanted = as_sequence(references), len(as_sequence(generated))
        if not len(references):
            return None
        if len(references) == wanted:
            return cls(references, references)
        return cls(references, None, f"{wanted} images but {len(references)} references make no pairs")
