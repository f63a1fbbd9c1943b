"""The report of an evaluation: values, weights, notes, and what is left out with the reasons."""

from dataclasses import dataclass, field
from typing import Any

from metrics.composite import composite_of
from metrics.errors import Unavailable
from metrics.metric import Metric
from metrics.table import COMPOSITE


@dataclass
class Report:
    """Collects results in the course of an evaluation; the fields are described at `ImageEvaluator.evaluate`."""

    values: dict[str, float] = field(default_factory=dict)
    composite_parts: list[str] = field(default_factory=list)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, metric: Metric) -> None:
        """Compute a metric that has got all its batches."""
        try:
            self.values[name] = float(metric.compute())
        except Unavailable as reason:
            self.left_out[name] = str(reason)
            return
        self.values |= metric.extras()
        self.notes += metric.notes()
        if source := metric.weights():
            self.weights[name] = dict(source)

    def add_composite(self) -> None:
        """Compute the composite score of the values so far."""
        composite = composite_of(self.values)
        self.composite_parts = list(composite.parts)
        if composite.value is None:
            self.left_out[COMPOSITE] = "none of its parts has a value"
            return
        self.values[COMPOSITE] = composite.value
        if composite.left_out:
            self.notes.append(
                f"{COMPOSITE}: of {', '.join(composite.parts)}, without {', '.join(composite.left_out)}; "
                "compare it only with composites of the same parts"
            )

    def as_dict(self, num_images: int, num_references: int) -> dict[str, Any]:
        """The report as a plain dictionary."""
        return {
            **self.values,
            "composite_parts": self.composite_parts,
            "num_images": num_images,
            "num_references": num_references,
            "weights": self.weights,
            "left_out": self.left_out,
            "notes": self.notes,
        }
