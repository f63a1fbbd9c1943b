"""Metrics of one's own: register one, and it stands in every report beside the built-in ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from metrics.errors import InputError
from metrics.metric import Metric

BUILT_IN = ("clip_score", "lpips", "inception_score", "fid", "psnr", "ssim")
TAKEN = (
    *BUILT_IN,
    "inception_score_std",
    "composite_score",
    "composite_parts",
    "num_images",
    "num_references",
    "weights",
    "left_out",
    "notes",
)

Function = Callable[[list, list | None, list | None], float]


@dataclass(frozen=True)
class Entry:
    """A metric of one's own; the fields are `register`'s arguments."""

    name: str
    metric: Function | Metric | type[Metric]
    higher_is_better: bool
    weight: float
    scale: Callable[[float], float]


_entries: dict[str, Entry] = {}


def register(
    name: str,
    metric: Function | Metric | type[Metric],
    higher_is_better: bool,
    weight: float = 0.0,
    scale: Callable[[float], float] | None = None,
) -> None:
    """Let a metric of one's own stand in every report from now on; a name given again replaces the earlier metric.

    Args:
        name: Its key in reports.
        metric: A function f(generated, references, prompts) -> float, or a `Metric`, or a class of one that can be
            made without arguments. The function gets everything at once: lists of uint8 tensors (3, height, width)
            and of texts, or None for what was not given. References that are pairs come in the order of the images.
            Whoever judges folders of tens of thousands of images writes a `Metric`, which gets them in batches.
            Either raises `Unavailable` where it cannot say a number.
        higher_is_better: Its direction.
        weight: Its weight in the composite score: above 0 where higher is better, below 0 where lower is better, 0 to
            leave the composite as it is.
        scale: Brings the number to 0..1 for the composite; without it the number is cut to 0..1.

    Raises:
        InputError: a name that is taken, a weight that does not fit the direction, or something that is no metric.
    """
    if name in TAKEN or not name:
        raise InputError(f"{name!r} is taken: a metric of your own needs a name of its own")
    if not callable(metric) and not isinstance(metric, Metric):
        raise InputError(f"{name}: a metric is a function or a metrics.Metric, not {type(metric).__name__}")
    if isinstance(metric, type) and not issubclass(metric, Metric):
        raise InputError(f"{name}: the class {metric.__name__} is no metrics.Metric")
    if not math.isfinite(weight) or (weight > 0 and not higher_is_better) or (weight < 0 and higher_is_better):
        raise InputError(f"{name}: a weight is above 0 where higher is better, below 0 where lower is; got {weight}")
    _entries[name] = Entry(name, metric, higher_is_better, weight, scale or clipped)


def unregister(name: str) -> None:
    """Forget a registered metric.

    Raises:
        InputError: none has this name.
    """
    if name not in _entries:
        raise InputError(f"no registered metric has the name {name!r}")
    del _entries[name]


def registered() -> dict[str, Entry]:
    """The registered metrics by name, in the order of registration."""
    return dict(_entries)


def clipped(value: float) -> float:
    """The value, cut to 0..1."""
    return min(1.0, max(0.0, value))


def direction(name: str) -> bool | None:
    """Whether higher is better; None for a name that is no metric's, a standard deviation say."""
    if name in _entries:
        return _entries[name].higher_is_better
    known = dict.fromkeys(("clip_score", "inception_score", "psnr", "ssim", "composite_score"), True)
    return (known | {"lpips": False, "fid": False}).get(name)
