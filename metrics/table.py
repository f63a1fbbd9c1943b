"""The built-in metrics in one table: names, directions, and what they count in the composite score. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field

COMPOSITE = "composite_score"
ERROR_SUFFIX = "_se"
JACKKNIFE = "jackknife"


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric besides its values.

    Attributes:
        higher_is_better: Its direction.
        weight: Its weight in the composite score; 0 where it is no part of it.
        scale: Maps its value to 0..1 for the composite score.
        digits: Decimals that it is shown with.
    """

    higher_is_better: bool
    weight: float
    scale: Callable[[float], float]
    digits: int = field(default=4, kw_only=True)


def clipped(value: float) -> float:
    """The value, clipped to 0..1."""
    return min(1.0, max(0.0, value))


def error_key(name: str) -> str:
    """The key of a metric's standard error in reports."""
    return name + ERROR_SUFFIX


# In the order of reports.
BUILT_IN: dict[str, MetricInfo] = {
    "clip_score": MetricInfo(True, 0.4, float),
    "lpips": MetricInfo(False, -0.2, lambda distance: min(1.0, distance)),
    "inception_score": MetricInfo(True, 0.3, lambda score: min(1.0, score / 5), digits=2),
    "fid": MetricInfo(False, -0.1, lambda distance: distance / (distance + 100), digits=2),
    "kid": MetricInfo(False, 0.0, clipped, digits=5),
    "cmmd": MetricInfo(False, 0.0, clipped),
    "mind": MetricInfo(False, 0.0, clipped, digits=2),
    "image_precision": MetricInfo(True, 0.0, clipped),
    "image_recall": MetricInfo(True, 0.0, clipped),
    "density": MetricInfo(True, 0.0, clipped),
    "coverage": MetricInfo(True, 0.0, clipped),
    "fd_dinov2": MetricInfo(False, 0.0, clipped, digits=2),
    "psnr": MetricInfo(True, 0.0, clipped, digits=2),
    "ssim": MetricInfo(True, 0.0, clipped),
}
# Whether higher is better, of the composite score and of the built-in metrics.
DIRECTIONS: dict[str, bool] = {COMPOSITE: True} | {name: info.higher_is_better for name, info in BUILT_IN.items()}
# Keys of a report that are no metric's.
RESERVED = (
    "inception_score_std",
    COMPOSITE,
    "composite_parts",
    JACKKNIFE,
    "num_images",
    "num_references",
    "weights",
    "left_out",
    "below_floor",
    "notes",
)
