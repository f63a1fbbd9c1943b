"""Reference images: a set, and the reference of each generated image where there is one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from metrics.folders import ImageFolder
from metrics.images import as_sequence, to_image

# What errors call them.
OF_REFERENCES = "of the references, "


@dataclass(frozen=True)
class References:
    """What generated images are compared with.

    Attributes:
        everything: The set, for FID and others.
        pairs: The reference of each generated image, in their order; None where there are no pairs.
        why_unpaired: The reason why `pairs` is None.
    """

    everything: Sequence[Any]
    pairs: Sequence[Any] | None
    why_unpaired: str = ""

    def key(self) -> str | None:
        """A text that is another one for other images of the set; None of what would be read twice to find it out.

        Of an `ImageFolder` from the files' sizes and times, of images in memory from their pixels.
        """
        if isinstance(self.everything, ImageFolder):
            return self.everything.fingerprint()
        if not isinstance(self.everything, list | tuple | Tensor | np.ndarray):
            return None
        digest = hashlib.sha256()
        for index, image in enumerate(self.everything):
            pixels = to_image(image, f"{OF_REFERENCES}{index}")
            digest.update(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes())
        return digest.hexdigest()

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
