"""One number out of several metrics; higher is better."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metrics.registry import registered


@dataclass(frozen=True)
class Composite:
    """A composite score and what it is made of.

    Attributes:
        value: The score; None where no part is there.
        parts: The metrics in it. Only composites of the same parts may be compared.
        left_out: The metrics that would be in it, but are missing or not finite.
    """

    value: float | None
    parts: tuple[str, ...]
    left_out: tuple[str, ...]


def _parts() -> dict[str, tuple[float, Callable[[float], float]]]:
    """Each part's weight and what brings it to 0..1: the built-in ones, then the registered ones."""
    built_in = {
        "clip_score": (0.4, float),
        "inception_score": (0.3, lambda score: min(1.0, score / 5)),
        "lpips": (-0.2, lambda distance: min(1.0, distance)),
        "fid": (-0.1, lambda distance: distance / (distance + 100)),
    }
    own = {name: (entry.weight, entry.scale) for name, entry in registered().items() if entry.weight}
    return built_in | own


def composite_of(metrics: Mapping[str, Any]) -> Composite:
    """The weighted average of the metrics that are there, and which those are.

    Each part is brought to 0..1 and weighted: CLIP score as it is, 0.4; Inception Score / 5, at most 1, 0.3; LPIPS, at
    most 1, -0.2; FID / (FID + 100), -0.1; registered metrics by their own weights. The sum is divided by the sum of
    the positive weights present, by 1 where there is none. So a better part always raises the score, and leaving one
    out does not lower it for being absent.

    Args:
        metrics: Values by name; other keys are ignored.

    >>> composite_of({"clip_score": 0.8123, "lpips": 0.1234, "inception_score": 3.45}).left_out
    ('fid',)
    """
    present, left_out = {}, []
    for name, (weight, scale) in _parts().items():
        value = metrics.get(name)
        part = scale(float(value)) if value is not None and math.isfinite(value) else math.nan
        if math.isfinite(part):
            present[name] = weight, part
        else:
            left_out.append(name)
    if not present:
        return Composite(None, (), tuple(left_out))
    total = sum(weight * part for weight, part in present.values())
    positive = sum(weight for weight, _ in present.values() if weight > 0)
    return Composite(total / (positive or 1.0), tuple(present), tuple(left_out))


def composite_score(metrics: Mapping[str, Any]) -> float | None:
    """The composite score alone; None where no part is there. `composite_of` names the parts, too.

    >>> round(composite_score({"clip_score": 0.8123, "lpips": 0.1234, "inception_score": 3.45}), 4)
    0.7246
    """
    return composite_of(metrics).value
