"""The composite score: one value out of several metrics; higher is better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metrics.registry import registered
from metrics.table import BUILT_IN, MetricInfo


@dataclass(frozen=True)
class Composite:
    """A composite score and its parts.

    Attributes:
        value: The score; None where there is no part.
        parts: The metrics in it. Only composites of the same parts may be compared.
        left_out: The metrics that belong in it, but are missing or not finite.
    """

    value: float | None
    parts: tuple[str, ...]
    left_out: tuple[str, ...]


def _parts() -> dict[str, MetricInfo]:
    """The metrics that belong in it: the built-in ones, heaviest first, then the registered ones."""
    built_in = sorted(BUILT_IN.items(), key=lambda item: -abs(item[1].weight))
    return {name: info for name, info in [*built_in, *registered().items()] if info.weight}


def composite_of(metrics: Mapping[str, Any]) -> Composite:
    """The weighted average of the metrics that are present, and their names.

    Each part is scaled to 0..1 and weighted: CLIP score as it is, 0.4; Inception Score / 5, at most 1, 0.3; LPIPS, at
    most 1, -0.2; FID / (FID + 100), -0.1; registered metrics by their own weights. The sum is divided by the sum of
    the positive weights present, by 1 where there is none. So a better part always raises the score, and a missing
    part does not lower it.

    Args:
        metrics: Values by name; other keys are ignored.

    >>> composite_of({"clip_score": 0.8123, "lpips": 0.1234, "inception_score": 3.45}).left_out
    ('fid',)
    """
    present, left_out = {}, []
    for name, info in _parts().items():
        value = metrics.get(name)
        part = info.scale(float(value)) if value is not None and math.isfinite(value) else math.nan
        if math.isfinite(part):
            present[name] = info.weight, part
        else:
            left_out.append(name)
    if not present:
        return Composite(None, (), tuple(left_out))
    total = sum(weight * part for weight, part in present.values())
    positive = sum(weight for weight, _ in present.values() if weight > 0)
    return Composite(total / (positive or 1.0), tuple(present), tuple(left_out))


def composite_score(metrics: Mapping[str, Any]) -> float | None:
    """The composite score alone; None where there is no part. `composite_of` also names the parts.

    >>> round(composite_score({"clip_score": 0.8123, "lpips": 0.1234, "inception_score": 3.45}), 4)
    0.7246
    """
    return composite_of(metrics).value
