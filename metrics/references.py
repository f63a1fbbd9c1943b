"""Reference images: a set, and the reference of each generated image where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metrics.images import as_sequence


@dataclass(frozen=True)
class References:
    """What generated images are compared with.

    Attributes:
        everything: The set, for FID.
        pairs: The reference of each generated image, in their order; None where there are no pairs.
        why_unpaired: The reason why `pairs` is None.
    """

    everything: Sequence[Any]
    pairs: Sequence[Any] | None
    why_unpaired: str = ""

    @classmethod
    def of(cls, references: Any, generated: Any) -> "References | None":
        """From what `ImageEvaluator.evaluate` takes; as many references as generated images are pairs."""
        if references is None or isinstance(references, cls):
            return references
        references, wanted = as_sequence(references), len(as_sequence(generated))
        if not len(references):
            return None
        if len(references) == wanted:
            return cls(references, references)
        return cls(references, None, f"{wanted} images but {len(references)} references make no pairs")
