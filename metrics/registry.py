"""Custom metrics: register one, and it is in every report beside the built-in ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from metrics.errors import InputError
from metrics.metric import Metric
from metrics.table import BUILT_IN, DIRECTIONS, ERROR_SUFFIX, RESERVED, MetricInfo, clipped

TAKEN = (*BUILT_IN, *RESERVED)

Function = Callable[[list, list | None, list | None], float]


@dataclass(frozen=True)
class Entry(MetricInfo):
    """A registered metric; the fields are `register`'s arguments."""

    metric: Function | Metric | type[Metric]


_entries: dict[str, Entry] = {}


def register(
    name: str,
    metric: Function | Metric | type[Metric],
    higher_is_better: bool,
    weight: float = 0.0,
    scale: Callable[[float], float] | None = None,
) -> None:
    """Add a custom metric to every report from now on; it replaces an earlier one of the same name.

    Args:
        name: Its key in reports; not one that ends in "_se", which is a standard error's.
        metric: A function f(generated, references, prompts) -> float, or a `Metric`, or a subclass of it that can be
            made without arguments. The function gets everything at once: lists of uint8 tensors (3, height, width)
            and of texts, or None for what was not given. References that are pairs come in the order of the images.
            For folders of tens of thousands of images write a `Metric`, which gets them in batches. Either raises
            `Unavailable` where it has no value.
        higher_is_better: Its direction.
        weight: Its weight in the composite score: above 0 where higher is better, below 0 where lower is better, 0 to
            leave the composite as it is.
        scale: Maps the value to 0..1 for the composite; without it the value is clipped to 0..1.

    Raises:
        InputError: a name that is taken, a weight of the wrong sign, or something that is not a metric.
    """
    if name in TAKEN or not name or name.endswith(ERROR_SUFFIX):
        raise InputError(f"the name {name!r} is taken: choose another one for your metric")
    if not callable(metric) and not isinstance(metric, Metric):
        raise InputError(f"{name}: a metric is a function or a metrics.Metric, not {type(metric).__name__}")
    if isinstance(metric, type) and not issubclass(metric, Metric):
        raise InputError(f"{name}: the class {metric.__name__} is not a metrics.Metric")
    if not math.isfinite(weight) or (weight > 0 and not higher_is_better) or (weight < 0 and higher_is_better):
        raise InputError(f"{name}: a weight is above 0 where higher is better, below 0 where lower is; got {weight}")
    _entries[name] = Entry(higher_is_better, weight, scale or clipped, metric)


def unregister(name: str) -> None:
    """Remove a registered metric.

    Raises:
        InputError: none has this name.
    """
    if name not in _entries:
        raise InputError(f"no registered metric has the name {name!r}")
    del _entries[name]


def registered() -> dict[str, Entry]:
    """The registered metrics by name, in the order of registration."""
    return dict(_entries)


def direction(name: str) -> bool | None:
    """Whether higher is better; None for a name that is no metric's, such as inception_score_std."""
    return _entries[name].higher_is_better if name in _entries else DIRECTIONS.get(name)
