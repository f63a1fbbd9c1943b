"""The report of an evaluation: values, errors, weights, notes, and what is left out with the reasons."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metrics.composite import Composite, composite_of
from metrics.errors import Unavailable
from metrics.metric import Metric
from metrics.resampling import jackknife_error
from metrics.table import COMPOSITE, JACKKNIFE, error_key


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The metrics of each reason, from the reason of each metric."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


@dataclass
class Report:
    """Collects results in the course of an evaluation; the fields are described at `ImageEvaluator.evaluate`."""

    num_images: int
    num_references: int
    values: dict[str, float] = field(default_factory=dict)
    jackknife: dict[str, list[float]] = field(default_factory=dict)
    composite_parts: list[str] = field(default_factory=list)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    below_floor: dict[str, int] = field(default_factory=dict)
    says_nothing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _unpublished: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, metric: Metric) -> None:
        """Compute a metric that has got all its batches."""
        try:
            self.values[name] = float(metric.compute())
        except Unavailable as reason:
            self.left_out[name] = str(reason)
            return
        self.values |= metric.extras()
        values = metric.jackknife()
        if values is not None and np.isfinite(values).all():
            self.jackknife[name] = (self.values[name] + values - values.mean()).tolist()
            self.values[error_key(name)] = metric.standard_error(values)
        if nothing := metric.says_nothing():
            self.says_nothing[name] = nothing
        images = min(self.num_images, self.num_references) if metric.needs_references else self.num_images
        if images < metric.floor:
            self.below_floor[name] = metric.floor
        self.notes += metric.notes()
        if source := metric.weights():
            self.weights[name] = dict(source)
            published = metric.published_weights()
            if published and not source["sha256"].startswith(Path(published).stem.rsplit("-", 1)[-1]):
                self._unpublished[name] = published

    def add_composite(self, guard: bool) -> None:
        """Compute the composite score of the values so far that say something; guarded, of those of enough images."""
        if self.below_floor:
            floors = ", ".join(f"{name} {floor}" for name, floor in self.below_floor.items())
            self.notes.append(f"fewer images than values mean something from: {floors}")
        excluded = {name: f"below its floor of {floor} images" for name, floor in self.below_floor.items() if guard}
        excluded |= self.says_nothing
        excluded |= {name: "not finite" for name, value in self.values.items() if not math.isfinite(value)}
        composite = composite_of({name: value for name, value in self.values.items() if name not in excluded})
        self.composite_parts = list(composite.parts)
        without = [f"{name} ({excluded[name]})" if name in excluded else name for name in composite.left_out]
        if composite.value is None:
            reason = f": {', '.join(without)}" if excluded.keys() & {*composite.left_out} else ""
            self.left_out[COMPOSITE] = f"none of its parts has a value{reason}"
            return
        self.values[COMPOSITE] = composite.value
        self._add_jackknife_of(composite)
        if without:
            self.notes.append(
                f"{COMPOSITE}: of {', '.join(composite.parts)}, without {', '.join(without)}; "
                "compare it only with composites of the same parts"
            )

    def _add_jackknife_of(self, composite: Composite) -> None:
        """The composite's own, where all its parts have theirs, which belong to the same images."""
        parts = [self.jackknife.get(name, []) for name in composite.parts]
        if len({len(values) for values in parts}) > 1 or not parts[0]:
            return
        for values in zip(*parts, strict=True):
            score = composite_of(dict(zip(composite.parts, values, strict=True))).value
            assert score is not None
            self.jackknife.setdefault(COMPOSITE, []).append(score)
        self.values[error_key(COMPOSITE)] = jackknife_error(np.array(self.jackknife[COMPOSITE]))

    def _notes_of_several(self) -> list[str]:
        """What is said once for all metrics that it holds for."""
        nothing = [
            f"{', '.join(names)}: says nothing: {reason}" for reason, names in grouped(self.says_nothing).items()
        ]
        other = "not comparable with published values, unless these weights equal those of"
        return nothing + [f"{', '.join(names)}: {other} {file}" for file, names in grouped(self._unpublished).items()]

    def as_dict(self) -> dict[str, Any]:
        """The report as a plain dictionary."""
        return {
            **self.values,
            JACKKNIFE: self.jackknife,
            "composite_parts": self.composite_parts,
            "num_images": self.num_images,
            "num_references": self.num_references,
            "weights": self.weights,
            "left_out": self.left_out,
            "below_floor": self.below_floor,
            "notes": [*self.notes, *self._notes_of_several()],
        }
